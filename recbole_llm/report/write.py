"""``recbole_llm report``: the tables, figures and page of a spec, from run records alone."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from recbole_llm.files import check_name, replacing
from recbole_llm.report.cells import Cells, collect, profiles_with_runs
from recbole_llm.report.contents import Picture, PlainTable, Report
from recbole_llm.report.cost import cost_tables
from recbole_llm.report.csv_files import (
    comparisons_to_csv,
    has_same_runs,
    points_to_csv,
    tables_to_csv,
)
from recbole_llm.report.embeddings import plot_embeddings
from recbole_llm.report.figures import FigureSpec, draw_figure
from recbole_llm.report.latex import to_latex
from recbole_llm.report.markdown import to_markdown
from recbole_llm.report.page import to_html
from recbole_llm.report.records import keep_records, read_runs
from recbole_llm.report.table import Table, build_table
from recbole_llm.sweep.spec import Spec, load_spec

#: Folders of run records that a report reads where no other are named; they need not exist.
DEFAULT_RUNS = ("runs", "reports/runs")
_TESTS = "significance.csv"


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
    return _write_files(experiment, cells, folder, [*notes, *kept])


def _write_files(spec: Spec, cells: Cells, folder: Path, notes: list[str]) -> WrittenReport:
    if not cells.runs():
        notes.append(f"There is no run yet. Make them with: recbole_llm sweep {spec.path}")
    tables, plain_tables = _tables(spec, cells)
    tests = comparisons_to_csv(tables)
    keeps_tests = not tests and _keeps_tests(folder, tables, notes)
    drawn, pictures, figure_notes = _figures(spec, cells, folder)
    report = Report(
        title=spec.title or spec.name,
        source=spec.source,
        profile=spec.profile,
        tables=tables,
        plain_tables=plain_tables,
        pictures=pictures,
        notes=[*notes, *figure_notes],
        runs=cells.runs(),
    )
    texts = {
        "report.md": to_markdown(report),
        "tables.csv": tables_to_csv(tables),
        _TESTS: tests,
        "tables.tex": "\n".join(map(to_latex, tables)),
        "points.csv": points_to_csv(spec, cells) if spec.figures else "",
        "index.html": to_html(report),
    }
    files = []
    for name, text in texts.items():
        path = folder / name
        if text:
            with replacing(path) as file:  # half a code point has no UTF-8: it becomes \\udXXX
                file.write(text.encode(errors="backslashreplace"))
            files.append(path)
        elif path.exists() and not (name == _TESTS and keeps_tests):
            path.unlink()
            logging.getLogger(__name__).warning(
                "%s of an earlier report was removed: this report has nothing to write in it.", path
            )
    return WrittenReport([*files, *drawn], len(report.runs))


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
    return tables, plain_tables


def _figures(spec: Spec, cells: Cells, folder: Path) -> tuple[list[Path], list[Picture], list[str]]:
    """Draw a spec's figures; returns their files, the pictures of the report, and notes."""
    files: list[Path] = []
    pictures: list[Picture] = []
    notes: list[str] = []
    for number, content in enumerate(spec.figures, start=1):
        entry = FigureSpec(**{k: v for k, v in content.items() if k in FigureSpec._fields})
        stem = folder / f"figure-{number}"
        draw = _draw_embeddings if entry.kind == "embeddings" else draw_figure
        drawn, figure_notes = draw(spec, cells, entry, stem)
        files += drawn
        notes += figure_notes
        pictures += [
            Picture(entry.title, path, path.relative_to(folder).as_posix())
            for path in drawn
            if path.suffix == ".png"
        ]
    return files, pictures, notes


def _draw_embeddings(
    spec: Spec, cells: Cells, entry: FigureSpec, stem: Path
) -> tuple[list[Path], list[str]]:
    """Draw the users of each row's run of its first seed, which needs the run's checkpoint."""
    cells_of_rows = [
        (row.label, cells.get(dataset, row)) for dataset in spec.datasets for row in spec.rows
    ]
    runs = [(label, cell.runs[0].path) for label, cell in cells_of_rows if cell.runs]
    if not runs:
        return [], [f"{stem.name}: no run."]
    labels, paths = zip(*runs, strict=True)
    try:
        files = plot_embeddings(paths, stem, entry.n_users, labels=labels, title=entry.title)
    except (FileNotFoundError, ValueError) as error:
        return [], [f"{stem.name}: not drawn. {error}"]
    return [path for path in files if path.suffix != ".csv"], []
