"""Figures of a grid of runs: lines with a band over seeds, heat maps, and bars."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from recbole_llm.plotting import (
    FILLS,
    GREYS,
    HATCHES,
    LineStyle,
    figure_style,
    line_style,
    panels,
    plain_text,
    save_figure,
)
from recbole_llm.report.cells import Cells
from recbole_llm.report.text import digits, short_metric
from recbole_llm.sweep.space import Value
from recbole_llm.sweep.spec import Row, Spec

_PARTS = {"valid": "validation", "test": "test"}


class FigureSpec(NamedTuple):
    """One entry of a spec's ``figures``; ``benchmarks/README.md`` lists the keys of each kind."""

    kind: str
    part: str = "valid"
    title: str = ""
    x: str = ""
    y: str = ""
    symbol: str = ""
    x_symbol: str = ""
    y_symbol: str = ""
    log: bool = False
    metrics: Sequence[str] = ("recall@20",)
    n_users: int = 500

    @property
    def metric_names(self) -> list[str]:
        """The metrics as records name them, in lower case."""
        return [metric.lower() for metric in self.metrics]

    def metric_label(self, metric: str) -> str:
        """Return the label of an axis that shows a metric."""
        return f"{short_metric(metric)} ({_PARTS[self.part]})"

    def points(self, spec: Spec) -> list[dict[str, Value]]:
        """Return the points of the spec's grid that set exactly the keys of this figure."""
        keys = {key for key in (self.x, self.y) if key}
        return [point for point in spec.grid if set(point) == keys]


def draw_figure(
    spec: Spec, cells: Cells, entry: FigureSpec, stem: Path
) -> tuple[list[Path], list[str]]:
    """Draw one figure of a spec, with a panel for each dataset.

    Args:
        spec: the experiment.
        cells: its runs.
        entry: the figure, of kind line, heatmap or bars.
        stem: path of the files without a suffix.

    Returns:
        The PDF and the PNG, or no file if no run exists; and notes for the reader.

    Raises:
        ValueError: a logarithmic axis has a value that is not a positive number.
    """
    notes = [f"{stem.name}: drawn on the {_PARTS[entry.part]} split."]
    with figure_style():
        figure, n_drawn = _KINDS[entry.kind](spec, cells, entry)
        if not n_drawn:
            return [], [f"{stem.name}: no run."]
        if entry.title:
            figure.suptitle(plain_text(entry.title))
        files = save_figure(figure, stem)
    n_cells = n_drawn if entry.kind == "heatmap" else n_drawn // len(entry.metric_names)
    n_expected = len(spec.datasets) * len(spec.rows) * len(entry.points(spec))
    if n_cells < n_expected:
        notes.append(f"{stem.name}: {n_expected - n_cells} of {n_expected} points have no run.")
    return files, notes


def _draw_lines(spec: Spec, cells: Cells, entry: FigureSpec) -> tuple[Figure, int]:
    metrics, points, n_drawn = entry.metric_names, entry.points(spec), 0
    figure, axes = panels(len(metrics), len(spec.datasets), width=2.8, height=2.1, sharex=True)
    positions = _positions(entry, points)
    for i, metric in enumerate(metrics):
        for j, dataset in enumerate(spec.datasets):
            axis = axes[i, j]
            for k, row in enumerate(spec.rows):
                stats = [
                    cells.get(dataset, row, point).mean_std(entry.part, metric) for point in points
                ]
                n_drawn += _draw_line(axis, row, positions, stats, line_style(k))
            _set_x_axis(axis, entry, points, positions)
            if i == 0:
                axis.set_title(plain_text(dataset))
            if i == len(metrics) - 1:
                axis.set_xlabel(entry.symbol or entry.x)
            if j == 0:
                axis.set_ylabel(entry.metric_label(metric))
    if len(spec.rows) > 1:
        axes[0, 0].legend()
    return figure, n_drawn


def _positions(entry: FigureSpec, points: Sequence[dict[str, Value]]) -> list[float]:
    """Return where values stand: at equal distances as in the papers, or on a logarithmic axis."""
    if not entry.log:
        return [float(i) for i in range(len(points))]
    positions = []
    for point in points:
        value = point[entry.x]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise ValueError(
                f"figures: a logarithmic axis needs positive numbers, and {entry.x} has "
                f"{value!r}. Leave `log` out."
            )
        positions.append(float(value))
    return positions


def _set_x_axis(
    axis: Any, entry: FigureSpec, points: Sequence[dict[str, Value]], positions: Sequence[float]
) -> None:
    if entry.log:
        axis.set_xscale("log")
        axis.minorticks_off()
    else:
        axis.set_xlim(-0.3, len(points) - 0.7)
    axis.set_xticks(positions, [plain_text(str(point[entry.x])) for point in points])


def _draw_line(
    axis: Any,
    row: Row,
    positions: Sequence[float],
    stats: Sequence[tuple[float, float | None] | None],
    style: LineStyle,
) -> int:
    """Draw one row's line, with a band of one standard deviation over its seeds.

    Returns:
        The number of points that have a run.
    """
    measured = [(position, *pair) for position, pair in zip(positions, stats, strict=True) if pair]
    if not measured:
        return 0
    x = [position for position, _, _ in measured]
    mean = np.array([value for _, value, _ in measured])
    std = np.array([spread or 0.0 for _, _, spread in measured])
    axis.plot(
        x, mean, style.dashes, marker=style.marker, color=style.colour, label=plain_text(row.label)
    )
    axis.fill_between(x, mean - std, mean + std, color=style.colour, alpha=0.15, linewidth=0)
    return len(measured)


def _draw_heatmaps(spec: Spec, cells: Cells, entry: FigureSpec) -> tuple[Figure, int]:
    metric, points = entry.metric_names[0], entry.points(spec)
    of_panels = [(dataset, row) for dataset in spec.datasets for row in spec.rows]
    figure, axes = panels(1, len(of_panels), width=3.1, height=2.7)
    xs = list(dict.fromkeys(point[entry.x] for point in points))
    ys = list(dict.fromkeys(point[entry.y] for point in points))
    n_drawn = 0
    for axis, (dataset, row) in zip(axes[0], of_panels, strict=True):
        grid = np.full((len(ys), len(xs)), np.nan)
        for point in points:
            stats = cells.get(dataset, row, point).mean_std(entry.part, metric)
            if stats is not None:
                grid[ys.index(point[entry.y]), xs.index(point[entry.x])] = stats[0]
                n_drawn += 1
        title = dataset if len(spec.rows) == 1 else f"{row.label} on {dataset}"
        axis.set_title(plain_text(title))
        axis.set_xticks(range(len(xs)), [plain_text(str(x)) for x in xs])
        axis.set_yticks(range(len(ys)), [plain_text(str(y)) for y in ys])
        axis.set_xlabel(entry.x_symbol or entry.x)
        axis.set_ylabel(entry.y_symbol or entry.y)
        axis.grid(False)
        if not np.isnan(grid).all():
            _draw_heatmap(figure, axis, grid, entry.metric_label(metric))
    return figure, n_drawn


def _draw_heatmap(figure: Figure, axis: Any, grid: np.ndarray[Any, Any], label: str) -> None:
    """Draw a grid (y, x) of values, NaN where no run exists, each value written in its field."""
    image = axis.imshow(grid, origin="lower", cmap=GREYS, aspect="auto")
    middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
    for (i, j), value in np.ndenumerate(grid):
        if not np.isnan(value):
            colour = "white" if value > middle else "black"
            axis.text(j, i, digits(value), ha="center", va="center", fontsize=6, color=colour)
    figure.colorbar(image, ax=axis, shrink=0.85).set_label(label)


def _draw_bars(spec: Spec, cells: Cells, entry: FigureSpec) -> tuple[Figure, int]:
    metrics, n_drawn = entry.metric_names, 0
    figure, axes = panels(len(spec.datasets), len(metrics), width=3.4, height=2.6)
    labels = [plain_text(row.label) for row in spec.rows]
    tilted: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    for i, dataset in enumerate(spec.datasets):
        for j, metric in enumerate(metrics):
            axis = axes[i, j]
            for k, row in enumerate(spec.rows):
                stats = cells.get(dataset, row).mean_std(entry.part, metric)
                if stats is None:
                    continue
                n_drawn += 1
                look = {"color": FILLS[(k + 1) % 2], "hatch": HATCHES[(k + 1) % 2]}
                axis.bar(k, stats[0], yerr=stats[1], edgecolor="black", capsize=3, **look)
            axis.set_xticks(range(len(labels)), labels, **tilted)
            axis.set_axisbelow(True)
            axis.set_title(plain_text(dataset))
            axis.set_ylabel(entry.metric_label(metric))
    return figure, n_drawn


_KINDS: dict[str, Callable[[Spec, Cells, FigureSpec], tuple[Figure, int]]] = {
    "line": _draw_lines,
    "heatmap": _draw_heatmaps,
    "bars": _draw_bars,
}
