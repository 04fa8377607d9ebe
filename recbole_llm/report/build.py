"""``recbole_llm report``: the tables, figures and page of a spec, from run records alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_llm.files import check_name
from recbole_llm.report.cells import Cells, Run, collect, profiles_with_runs, read_runs
from recbole_llm.report.figures import draw
from recbole_llm.report.page import Page, to_html
from recbole_llm.report.render import STAR_MEANS, has_star, tests_to_csv, to_csv, to_latex
from recbole_llm.report.render import to_markdown as table_to_markdown
from recbole_llm.report.table import Table, build_table, read_published
from recbole_llm.sweep.spec import Spec, load_spec

PlainTable = tuple[str, list[str], list[list[str]]]


def write_report(
    spec_path: str | Path,
    profile: str | None = None,
    runs_dirs: Sequence[str | Path] = ("runs", "reports/runs"),
    output: str | Path = "reports",
) -> list[Path]:
    """Write ``<output>/<name>/``: Markdown, CSV, LaTeX, figures, ``index.html``, the records used.

    Args:
        spec_path: the spec that ``recbole_llm sweep`` ran.
        profile: of the spec; None: the first one that has runs, the paper's before the others.
        runs_dirs: folders of run records.
        output: parent of the report's folder.

    Returns:
        The files, without the records.

    Raises:
        FileNotFoundError: there is no such spec.
        ValueError: the spec or the published numbers are not right.
    """
    spec = load_spec(spec_path, profile)
    runs, notes = read_runs([Path(folder) for folder in runs_dirs])
    if profile is None:
        found = profiles_with_runs(spec, runs)
        if found and found[0] != spec.profile:
            spec = load_spec(spec_path, found[0])
        if len(found) > 1:
            notes.append(f"There are also runs of profile {', '.join(found[1:])} (--profile).")
    cells = collect(spec, runs)
    folder = Path(output) / check_name("report", spec.name)
    folder.mkdir(parents=True, exist_ok=True)
    notes = [*([spec.note] if spec.note else []), *cells.notes, *notes]
    return _write(spec, cells, folder, notes)


def _write(spec: Spec, cells: Cells, folder: Path, notes: list[str]) -> list[Path]:
    used = list(
        {run.record.id: run for cell in cells.by_key.values() for run in cell.runs}.values()
    )
    if not used:
        notes.append(f"There is no run yet. Make them with: recbole_llm sweep {spec.path}")
    tables = [
        build_table(spec, cells, it.get("metrics"), it.get("title", spec.title))
        for it in spec.tables
        if it["kind"] == "metrics"
    ]
    plain: list[PlainTable] = []
    if any(it["kind"] == "cost" for it in spec.tables):
        plain = [_cost_table(spec, cells), *_published_cost(spec)]
    figures: list[Path] = []
    for i, figure in enumerate(spec.figures, start=1):
        files, said = _figure(spec, cells, figure, folder / f"figure-{i}")
        figures += files
        notes += said
    written = {
        "report.md": _markdown(spec, tables, plain, figures, notes),
        "tables.csv": "".join(map(to_csv, tables)),
        "significance.csv": tests_to_csv(tables) if any(t.tests for t in tables) else "",
        "tables.tex": "\n".join(map(to_latex, tables)),
        "points.csv": _points(spec, cells) if spec.figures else "",
        "index.html": to_html(
            Page(
                spec.title or spec.name,
                spec.source,
                spec.profile,
                tables,
                plain,
                [path for path in figures if path.suffix == ".png"],
                notes,
                used,
            )
        ),
    }
    paths = []
    for name, text in written.items():
        path = folder / name
        if text:
            path.write_text(text, encoding="utf-8")
            paths.append(path)
        else:
            path.unlink(missing_ok=True)  # of an earlier report
    _keep_records(used, folder / "records")
    return [*paths, *figures]


def _figure(
    spec: Spec, cells: Cells, figure: dict[str, Any], stem: Path
) -> tuple[list[Path], list[str]]:
    if figure["kind"] != "embeddings":
        return draw(spec, cells, figure, stem)
    from recbole_llm.report.embeddings import plot_embeddings

    rows = [(row, cells.get(dataset, row)) for dataset in spec.datasets for row in spec.rows]
    runs = [(row.label, cell.runs[0].path) for row, cell in rows if cell.runs]
    if not runs:
        return [], [f"{stem.name}: no run."]
    labels, paths = zip(*runs, strict=True)
    n_users = figure.get("n_users", 500)
    try:
        files = plot_embeddings(paths, stem, n_users, labels=labels)
    except (FileNotFoundError, ValueError) as error:  # it needs the runs' checkpoints
        return [], [f"{stem.name}: not drawn. {error}"]
    return [path for path in files if path.suffix != ".csv"], []


def _keep_records(used: Sequence[Run], folder: Path) -> None:
    """Copy the records beside the report, whose numbers then can be traced wherever it goes."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.json"):
        if old.stem not in {run.record.id for run in used}:
            old.unlink()
    for run in used:
        target = folder / f"{run.record.id}.json"
        target.write_text(json.dumps(run.record.shared(), indent=1) + "\n", encoding="utf-8")


def _cost_table(spec: Spec, cells: Cells) -> PlainTable:
    """Return the cost of each stage of each row, of its first seed, the device first."""
    heads = ["dataset", "model", "stage", "seconds", "peak MiB", "trainable", "of all", "device"]
    rows = []
    for dataset in spec.datasets:
        for row in spec.rows:
            cell = cells.get(dataset, row)
            if not cell.runs:
                rows.append([dataset, row.label, "no run", "", "", "", "", ""])
                continue
            record = cell.runs[0].record
            for stage in record.stages:
                seconds = stage.seconds if stage.cached_from_s is None else stage.cached_from_s
                share = f"{stage.trainable / stage.parameters:.2%}" if stage.parameters else ""
                rows.append(
                    [
                        dataset,
                        row.label,
                        stage.name,
                        f"{seconds:.1f}",
                        f"{stage.peak_bytes / 2**20:.0f}",
                        f"{stage.trainable}" if stage.parameters else "",
                        share,
                        str(record.environment.get("device", "")),
                    ]
                )
    return "Cost of each stage", heads, rows


def _published_cost(spec: Spec) -> list[PlainTable]:
    """Return the paper's own table of costs, as it is printed there."""
    said: list[str] = []
    rows = read_published(spec, said)
    if not rows:
        return []
    found = {(label, name): v for label, of in rows.items() for name, v in of.items()}
    heads = list(next(iter(found.values())))
    lines = [[name, label, *map(str, v.values())] for (label, name), v in found.items()]
    return [(said[0], ["dataset", "model", *heads], lines)]


def _points(spec: Spec, cells: Cells) -> str:
    """Return one CSV line a point of the figures, metric and part."""
    keys = list(dict.fromkeys(key for point in spec.grid for key in point))
    lines = [",".join(["dataset", "row", *keys, "part", "metric", "mean", "std", "n_seeds"])]
    for dataset in spec.datasets:
        for row in spec.rows:
            for point in spec.grid:
                cell = cells.get(dataset, row, point)
                for part, metrics in cell.runs[0].record.metrics.items() if cell.runs else []:
                    for metric in metrics:
                        stats = cell.mean_std(part, metric)
                        if stats is None:
                            continue
                        at = [str(point.get(key, "")) for key in keys]
                        std = "" if stats[1] is None else str(stats[1])
                        tail = [part, metric, str(stats[0]), std, str(len(cell.runs))]
                        lines.append(",".join([dataset, row.label, *at, *tail]))
    return "\n".join(lines) + "\n"


def _markdown(
    spec: Spec,
    tables: Sequence[Table],
    plain: Sequence[PlainTable],
    figures: Sequence[Path],
    notes: Sequence[str],
) -> str:
    out = [f"# {spec.title or spec.name}", f"{spec.source} Profile: {spec.profile}.".strip()]
    out += [f"- {note}" for note in notes]
    for table in tables:
        out += [
            f"\n## {table.title}\n" if table.title != spec.title else "",
            table_to_markdown(table),
        ]
        out.append(
            "\nMean ± standard deviation over seeds, on test; best bold, second underlined among "
            "the rows measured here. Rows in italics are published numbers, not measured here."
        )
        out += [f"\n{note}" for note in [*table.notes, *([STAR_MEANS] if has_star(table) else [])]]
    for title, heads, rows in plain:
        out += [f"\n## {title}\n"]
        out += [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]
    out += [f"\n![{path.stem}]({path.name})" for path in figures if path.suffix == ".png"]
    return "\n".join(out) + "\n"
