"""The front page of all reports: leaderboards, quality against training cost, and links."""

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.ticker import FormatStrFormatter, LogLocator

from recbole_llm.files import replacing
from recbole_llm.plotting import figure_style, line_style, panels, plain_text, save_figure
from recbole_llm.report.contents import Picture
from recbole_llm.report.leaderboard import METRICS, Board, Entry, leaderboards
from recbole_llm.report.page import environment
from recbole_llm.report.records import Run, read_runs
from recbole_llm.report.text import digits, short_metric

_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)
_FILES = ("report.md", "tables.csv", "tables.tex")
_METRIC = "recall@20"  # of the pictures
_FIGURES = "front"  # folder of the pictures


class Link(NamedTuple):
    """A report on the front page: its folder's name, its title, and its other files."""

    name: str
    title: str
    files: list[str]


def write_front(folder: Path) -> Path | None:
    """Write ``index.html`` of a folder of reports, and the pictures in ``front/``.

    Boards are made from the records in ``<report>/records`` and in ``runs``.

    Returns:
        The page, or None if the folder has no report.
    """
    links = [_link(path) for path in sorted(folder.glob("*/index.html"))]
    if not links:
        return None
    runs, notes = read_runs([*sorted(folder.glob("*/records")), folder / "runs"])
    boards, left_out = leaderboards(runs)
    pictures = [
        _draw_cost(board, folder / _FIGURES / f"cost-{number}", folder)
        for number, board in enumerate(boards, start=1)
    ]
    page = (
        environment()
        .get_template("front.html.j2")
        .render(
            boards=list(zip(boards, pictures, strict=True)),
            links=links,
            notes=[*left_out, *notes],
            metrics=list(map(short_metric, METRICS)),
            rows=[[_cells(entry, folder) for entry in board.entries] for board in boards],
        )
    )
    path = folder / "index.html"
    with replacing(path) as file:
        file.write(page.encode(errors="backslashreplace"))
    return path


def _link(page: Path) -> Link:
    folder = page.parent
    found = _TITLE.search(page.read_text(encoding="utf-8", errors="replace"))
    title = html.unescape(found[1]).strip() if found else folder.name
    return Link(folder.name, title, [name for name in _FILES if (folder / name).is_file()])


class _Row(NamedTuple):
    model: str
    values: list[tuple[str, float]]
    seeds: str
    seconds: str
    n_configurations: int
    records: list[tuple[str, str]]


def _cells(entry: Entry, folder: Path) -> _Row:
    values = []
    for mean, std in entry.means.values():
        spread = "" if std is None else f" ± {digits(std)}"
        values.append((digits(mean) + spread, mean))
    records = [(_place(run, folder), str(run.record.seed)) for run in entry.runs]
    seeds = ", ".join(seed for _, seed in records)
    return _Row(entry.model, values, seeds, f"{entry.seconds:.0f}", entry.n_configurations, records)


def _place(run: Run, folder: Path) -> str:
    return run.path.relative_to(folder).as_posix()


def _draw_cost(board: Board, stem: Path, folder: Path) -> Picture:
    """Draw a board's models by their training seconds (x) and their metric on test (y)."""
    with figure_style():
        figure, axes = panels(1, 1, width=4.4, height=2.6)
        _draw_points(axes[0, 0], board.entries)
        axes[0, 0].set_title(plain_text(f"{board.dataset}, {board.protocol}"))
        axes[0, 0].set_ylabel(f"{short_metric(_METRIC)} (test)")
        axes[0, 0].set_xlabel("training [s]")
        _, png = save_figure(figure, stem)
    caption = (
        f"{short_metric(_METRIC)} against seconds of training, all stages, on the machine of each "
        f"run; whiskers are one standard deviation over seeds."
    )
    title = f"Quality against training cost, {board.dataset}"
    return Picture(title, png, png.relative_to(folder).as_posix(), caption)


def _draw_points(axis: Any, entries: Sequence[Entry]) -> None:
    for i, entry in enumerate(entries):
        mean, std = entry.means[_METRIC]
        style = line_style(i)
        look = {"color": style.colour, "marker": style.marker, "linestyle": "", "capsize": 2}
        x = max(entry.seconds, 0.1)  # a model without training has a place on the axis too
        axis.errorbar(x, mean, yerr=std, linewidth=1, label=plain_text(entry.model), **look)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.minorticks_off()
    axis.tick_params(axis="x", rotation=45)
    axis.margins(x=0.1, y=0.15)
    axis.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0)
