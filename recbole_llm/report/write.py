"""``recbole_llm report``: the tables, figures and page of a spec, from run records alone."""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from recbole_llm.files import check_name, replacing
from recbole_llm.report.cells import Cells, collect, profiles_with_runs
from recbole_llm.report.contents import PlainTable, Report
from recbole_llm.report.cost import cost_tables
from recbole_llm.report.csv_files import (
    comparisons_to_csv,
    has_same_runs,
    points_to_csv,
    tables_to_csv,
    to_csv,
)
from recbole_llm.report.facts import facts
from recbole_llm.report.front import write_front
from recbole_llm.report.latex import plain_to_latex, to_latex
from recbole_llm.report.markdown import to_markdown
from recbole_llm.report.page import to_html
from recbole_llm.report.pictures import draw_pictures, draw_table_bars
from recbole_llm.report.records import keep_records, read_runs
from recbole_llm.report.setup_tables import setup_tables
from recbole_llm.report.table import Table, build_table
from recbole_llm.sweep.spec import Spec, load_spec

#: Folders of run records that a report reads where no other are named; they need not exist.
DEFAULT_RUNS = ("runs", "reports/runs")
_TESTS = "significance.csv"
_PLAIN_NAMES = ("cost", "data", "search", "chosen", "setup")


class WrittenReport(NamedTuple):
    """A report on disk.

    Attributes:
        files: the files that were written, without the records.
        n_runs: number of runs whose numbers are shown.
    """

    files: list[Path]
    n_runs: int


def write_report(
    spec: str | Path,
    profile: str | None = None,
    runs: Sequence[str | Path] = DEFAULT_RUNS,
    output: str | Path = "reports",
) -> WrittenReport:
    """Write ``<output>/<name>/``: Markdown, CSV, LaTeX, figures, ``index.html``, and records.

    ``<output>/index.html``, the front page of all reports there, is written anew as well.

    The folder ``<output>/<name>/records`` of an earlier report is read like a folder of runs. The
    records of the runs that are shown are copied into it; no record in it is removed or replaced.

    Args:
        spec: path of the spec that ``recbole_llm sweep`` ran.
        profile: name of a profile of the spec; None: the first one that has runs, the paper's
            before the others.
        runs: folders of run records.
        output: parent of the report's folder.

    Raises:
        FileNotFoundError: the spec does not exist, or a folder of runs that was named.
        ValueError: the spec or the published numbers cannot be read, or the spec's name cannot
            be the name of a folder.
    """
    experiment = load_spec(spec, profile)
    for place in runs:
        if str(place) not in DEFAULT_RUNS and not Path(place).is_dir():
            raise FileNotFoundError(f"there is no folder of run records {str(place)!r} (--runs).")
    folder = Path(output) / check_name("report", experiment.name)
    known, notes = read_runs([*map(Path, runs), folder / "records"])
    if profile is None:
        profiles = profiles_with_runs(experiment, known)
        if profiles and profiles[0] != experiment.profile:
            experiment = load_spec(spec, profiles[0])
        if len(profiles) > 1:
            notes.append(f"There are also runs of profile {', '.join(profiles[1:])} (--profile).")
    cells = collect(experiment, known)
    notes = [*([experiment.note] if experiment.note else []), *cells.notes, *notes]
    kept = keep_records(cells.runs(), folder / "records")
    for note in kept:
        logging.getLogger(__name__).warning("%s: %s", folder, note)
    written = _write_files(experiment, cells, folder, [*notes, *kept])
    front = write_front(Path(output))
    return WrittenReport([*written.files, *([front] if front else [])], written.n_runs)


def _write_files(spec: Spec, cells: Cells, folder: Path, notes: list[str]) -> WrittenReport:
    if not cells.runs():
        notes.append(f"There is no run yet. Make them with: recbole_llm sweep {spec.path}")
    tables, plain_tables = _tables(spec, cells)
    tests = comparisons_to_csv(tables)
    keeps_tests = not tests and _keeps_tests(folder, tables, notes)
    drawn, pictures, figure_notes = draw_pictures(spec, cells, folder)
    bar_files, bars = draw_table_bars(spec, tables, folder)
    report = Report(
        title=spec.title or spec.name,
        source=spec.source,
        profile=spec.profile,
        tables=tables,
        plain_tables=plain_tables,
        pictures=pictures,
        notes=[*notes, *figure_notes],
        runs=cells.runs(),
        facts=facts(spec, cells.runs()),
        bars=bars,
    )
    texts = {
        "tables.csv": tables_to_csv(tables),
        _TESTS: tests,
        "tables.tex": _latex(spec, tables),
        "points.csv": points_to_csv(spec, cells) if spec.figures else "",
        **_plain_files(spec, report),
    }
    kept = {_TESTS} if keeps_tests else set()
    names = [name for name, text in texts.items() if text or name in kept]
    report = report._replace(files=["report.md", *names])
    texts |= {"report.md": to_markdown(report), "index.html": to_html(report)}
    files = _write_texts(folder, texts, kept)
    return WrittenReport([*files, *drawn, *bar_files], len(report.runs))


def _write_texts(folder: Path, texts: Mapping[str, str], kept: Collection[str]) -> list[Path]:
    """Write texts by the name of the file; an earlier file with nothing to write goes.

    Args:
        folder: folder of the report.
        texts: content of each file.
        kept: names of files that stay as they are if there is nothing to write.

    Returns:
        The files that were written.
    """
    files = []
    for name, text in texts.items():
        path = folder / name
        if text:
            with replacing(path) as file:  # half a code point has no UTF-8: it becomes \\udXXX
                file.write(text.encode(errors="backslashreplace"))
            files.append(path)
        elif path.exists() and name not in kept:
            path.unlink()
            logging.getLogger(__name__).warning(
                "%s of an earlier report was removed: this report has nothing to write in it.", path
            )
    return files


def _keeps_tests(folder: Path, tables: list[Table], notes: list[str]) -> bool:
    """Return whether an earlier report's tests stay; a note says what becomes of them.

    They stay where they are of the same runs, whose lists are not here to test again.
    """
    if not (folder / _TESTS).exists():
        return False
    if has_same_runs(folder / "tables.csv", tables):
        notes.append(
            f"{_TESTS} is that of an earlier report of the same runs: their lists are not here, so "
            f"the tests could not be repeated and the table has no marks of significance."
        )
        return True
    notes.append(f"{_TESTS} of an earlier report was removed: it was of other runs.")
    return False


def _tables(spec: Spec, cells: Cells) -> tuple[list[Table], list[PlainTable]]:
    tables: list[Table] = []
    plain_tables: list[PlainTable] = []
    for entry in spec.tables:
        title = entry.get("title")
        if entry["kind"] == "metrics":
            heading = spec.title if title is None else title
            tables.append(build_table(spec, cells, entry.get("metrics"), heading))
        else:
            plain_tables += cost_tables(spec, cells, title or "Cost of each stage")
    return tables, [*plain_tables, *setup_tables(spec, cells)]


def _latex(spec: Spec, tables: Sequence[Table]) -> str:
    pairs = enumerate(tables, start=1)
    return "\n".join(to_latex(table, f"{spec.name}-{number}") for number, table in pairs)


def _plain_files(spec: Spec, report: Report) -> dict[str, str]:
    """Return CSV and LaTeX of the plain tables and of the facts, by the name of the file.

    A name without a table has an empty text, so that a file of an earlier report goes.
    """
    setup = PlainTable("Set-up", ["what", "how"], report.facts, "setup")
    texts: dict[str, str] = {}
    for name in _PLAIN_NAMES:
        tables = [table for table in [*report.plain_tables, setup] if table.name == name]
        texts[f"{name}.csv"] = "".join(to_csv([table.heads, *table.rows]) for table in tables)
        texts[f"{name}.tex"] = "\n".join(
            plain_to_latex(table, f"{spec.name}-{name}{'' if i == 0 else f'-{i + 1}'}")
            for i, table in enumerate(tables)
        )
    return texts
