"""The pictures of a report: the figures of the spec, bars of each table, learning curves."""

from collections.abc import Sequence
from pathlib import Path

from recbole_llm.report.bars import draw_bars
from recbole_llm.report.cells import Cells
from recbole_llm.report.contents import Picture
from recbole_llm.report.curves import draw_curves
from recbole_llm.report.embeddings import plot_embeddings, redraw_embeddings
from recbole_llm.report.figures import Drawn, FigureSpec, draw_figure
from recbole_llm.report.records import Run
from recbole_llm.report.table import Table
from recbole_llm.sweep.spec import Spec

_CURVES = "learning-curves"


def draw_pictures(
    spec: Spec, cells: Cells, folder: Path
) -> tuple[list[Path], list[Picture], list[str]]:
    """Draw a spec's figures and the learning curves of its runs.

    Args:
        spec: experiment.
        cells: its runs.
        folder: folder of the report.

    Returns:
        All files, the pictures of the report, and notes for its reader.
    """
    files: list[Path] = []
    pictures: list[Picture] = []
    notes: list[str] = []
    for number, content in enumerate(spec.figures, start=1):
        entry = FigureSpec(**{k: v for k, v in content.items() if k in FigureSpec._fields})
        stem = folder / f"figure-{number}"
        draw = _draw_embeddings if entry.kind == "embeddings" else draw_figure
        drawn = draw(spec, cells, entry, stem)
        files += drawn.files
        notes += drawn.notes
        pictures += _pictures(entry.title, drawn.files, drawn.caption, folder)
    drawn_files, caption = draw_curves(spec, cells, folder / _CURVES)
    files += drawn_files
    pictures += _pictures("Learning curves", drawn_files, caption, folder)
    if not drawn_files and cells.runs():
        notes.append("There are no learning curves: no run validated after more than one epoch.")
    return files, pictures, notes


def draw_table_bars(
    spec: Spec, tables: Sequence[Table], folder: Path
) -> tuple[list[Path], list[Picture | None]]:
    """Draw the bars of each table, of the metric that chose the rows where the table has it.

    Returns:
        All files, and a picture for each table, None for a table without a measured number.
    """
    files: list[Path] = []
    pictures: list[Picture | None] = []
    for number, table in enumerate(tables, start=1):
        drawn, caption = draw_bars(table, spec.metric.lower(), folder / f"bars-{number}")
        files += drawn
        pictures += _pictures(table.title or "Bars", drawn, caption, folder) or [None]
    return files, pictures


def _pictures(title: str, files: Sequence[Path], caption: str, folder: Path) -> list[Picture]:
    return [
        Picture(title, path, path.relative_to(folder).as_posix(), caption)
        for path in files
        if path.suffix == ".png"
    ]


def _draw_embeddings(spec: Spec, cells: Cells, entry: FigureSpec, stem: Path) -> Drawn:
    """Draw the users of each row's run of its first seed.

    This needs the run's checkpoint, or the points of an earlier figure of the same runs.
    """
    chosen = _first_runs(spec, cells)
    if not chosen:
        return Drawn([], [f"{stem.name}: no run."])
    labels, runs = zip(*chosen, strict=True)
    paths = [run.path for run in runs]
    try:
        files = plot_embeddings(paths, stem, entry.n_users, labels=labels, title=entry.title)
    except (FileNotFoundError, ValueError) as error:
        files = redraw_embeddings([run.record for run in runs], stem, entry.title)
        if not files:
            return Drawn([], [f"{stem.name}: not drawn. {error}"])
    caption = (
        f"Embeddings of at most {entry.n_users} users in the plane by t-SNE with their density "
        f"(above), and the density of their angles around the centre (below)."
    )
    return Drawn([path for path in files if path.suffix != ".csv"], [], caption)


def _first_runs(spec: Spec, cells: Cells) -> list[tuple[str, Run]]:
    found = [(row.label, cells.get(dataset, row)) for dataset in spec.datasets for row in spec.rows]
    return [(label, cell.runs[0]) for label, cell in found if cell.runs]
