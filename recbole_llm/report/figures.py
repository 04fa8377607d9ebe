"""Figures of a grid of runs: lines with a band over seeds, heat maps, and bars."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from recbole_llm.plotting import (
    COLOURS,
    FILLS,
    HATCHES,
    LineStyle,
    figure_style,
    line_style,
    panel_width,
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


class Drawn(NamedTuple):
    """A drawn figure.

    Attributes:
        files: paths of the PDF and the PNG; empty if no run exists.
        notes: sentences for the reader on what is missing.
        caption: what the marks of the figure mean; may be empty.
    """

    files: list[Path]
    notes: list[str]
    caption: str = ""


def draw_figure(spec: Spec, cells: Cells, entry: FigureSpec, stem: Path) -> Drawn:
    """Draw one figure of a spec, with a panel for each dataset.

    Args:
        spec: the experiment.
        cells: its runs.
        entry: the figure, of kind line, heatmap or bars.
        stem: path of the files without a suffix.

    Raises:
        ValueError: a logarithmic axis has a value that is not a positive number.
    """
    notes = [f"{stem.name}: drawn on the {_PARTS[entry.part]} split."]
    with figure_style():
        figure, n_drawn = _KINDS[entry.kind](spec, cells, entry)
        if not n_drawn:
            return Drawn([], [f"{stem.name}: no run."])
        if entry.title:
            figure.suptitle(plain_text(entry.title))
        files = save_figure(figure, stem)
    n_cells = n_drawn if entry.kind == "heatmap" else n_drawn // len(entry.metric_names)
    n_expected = len(spec.datasets) * len(spec.rows) * len(entry.points(spec))
    if n_cells < n_expected:
        notes.append(f"{stem.name}: {n_expected - n_cells} of {n_expected} points have no run.")
    return Drawn(files, notes, _caption(cells, entry))


def _caption(cells: Cells, entry: FigureSpec) -> str:
    caption = f"Mean over seeds on the {_PARTS[entry.part]} split"
    spread = any(len(cell.runs) > 1 and not cell.problem for cell in cells.by_key.values())
    if not spread:
        return f"Values of one seed on the {_PARTS[entry.part]} split."
    marks = {
        "line": "; the band is one standard deviation over seeds",
        "bars": "; whiskers are one standard deviation over seeds",
    }
    return f"{caption}{marks.get(entry.kind, '')}."


def _draw_lines(spec: Spec, cells: Cells, entry: FigureSpec) -> tuple[Figure, int]:
    metrics, points, n_drawn = entry.metric_names, entry.points(spec), 0
    figure, axes = panels(
        len(metrics),
        len(spec.datasets),
        width=panel_width(len(spec.datasets)),
        height=1.9,
        sharex=True,
    )
    scale = axis_scale([point[entry.x] for point in points], entry)
    for i, metric in enumerate(metrics):
        for j, dataset in enumerate(spec.datasets):
            axis = axes[i, j]
            for k, row in enumerate(spec.rows):
                stats = [
                    cells.get(dataset, row, point).mean_std(entry.part, metric) for point in points
                ]
                n_drawn += _draw_line(axis, row, scale.positions, stats, line_style(k))
            _set_x_axis(axis, scale)
            if i == 0:
                axis.set_title(plain_text(dataset))
            if i == len(metrics) - 1:
                axis.set_xlabel(entry.symbol or entry.x)
            if j == 0:
                axis.set_ylabel(entry.metric_label(metric))
    band = [Patch(color="0.8", label="± standard deviation")] if _has_band(axes[0, 0]) else []
    handles = [*(axes[0, 0].get_legend_handles_labels()[0] if len(spec.rows) > 1 else []), *band]
    if handles:
        axes[0, 0].legend(handles=handles)
    return figure, n_drawn


def _has_band(axis: Any) -> bool:
    return any(len(band.get_paths()) for band in axis.collections)


class Scale(NamedTuple):
    """The horizontal axis of a line figure.

    Attributes:
        kind: ``linear``, ``log``, ``symlog`` (logarithmic, with a place for zero), or ``names`` for
            values that are no numbers, at equal distances.
        positions: place of each value.
        labels: text below each place.
    """

    kind: str
    positions: list[float]
    labels: list[str]


def axis_scale(values: Sequence[Value], entry: FigureSpec) -> Scale:
    """Return where values stand: numbers at their place, on the scale that spreads them evenly.

    Args:
        values: values of the grid, in its order.
        entry: figure; with ``log`` its axis is logarithmic.

    Raises:
        ValueError: the figure has ``log``, and a value is not a positive number.
    """
    labels = [plain_text(str(value)) for value in values]
    numbers = [
        float(value)
        for value in values
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    wrong = [value for value in values if isinstance(value, (bool, str)) or not value or value <= 0]
    if entry.log and wrong:
        raise ValueError(
            f"figures: a logarithmic axis needs positive numbers, and {entry.x} has "
            f"{wrong[0]!r}. Leave `log` out."
        )
    if len(numbers) < len(values):
        return Scale("names", [float(i) for i in range(len(values))], labels)
    if entry.log:
        return Scale("log", numbers, labels)
    positive = sorted(number for number in numbers if number > 0)
    if min(numbers) >= 0 and _unevenness(np.log(positive)) < _unevenness(np.array(positive)):
        return Scale("symlog" if 0 in numbers else "log", numbers, labels)
    return Scale("linear", numbers, labels)


def _unevenness(values: np.ndarray[Any, Any]) -> float:
    """Return the spread of the distances between ascending values, over their mean."""
    steps = np.diff(values)
    return float(steps.std() / steps.mean()) if len(steps) > 1 else 0.0


def _set_x_axis(axis: Any, scale: Scale) -> None:
    if scale.kind == "symlog":
        axis.set_xscale("symlog", linthresh=min(x for x in scale.positions if x > 0))
    elif scale.kind == "log":
        axis.set_xscale("log")
    elif scale.kind == "names":
        axis.set_xlim(-0.3, len(scale.positions) - 0.7)
    axis.minorticks_off()
    axis.set_xticks(scale.positions, scale.labels)


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
    std = np.array([np.nan if spread is None else spread for _, _, spread in measured])
    axis.plot(
        x, mean, style.dashes, marker=style.marker, color=style.colour, label=plain_text(row.label)
    )
    if not np.isnan(std).all():
        axis.fill_between(x, mean - std, mean + std, color=style.colour, alpha=0.15, linewidth=0)
    return len(measured)


def _draw_heatmaps(spec: Spec, cells: Cells, entry: FigureSpec) -> tuple[Figure, int]:
    metric, points = entry.metric_names[0], entry.points(spec)
    of_panels = [(dataset, row) for dataset in spec.datasets for row in spec.rows]
    figure, axes = panels(1, len(of_panels), width=panel_width(len(of_panels)), height=2.5)
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
    image = axis.imshow(grid, origin="lower", cmap=COLOURS, aspect="auto")
    middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
    for (i, j), value in np.ndenumerate(grid):
        if not np.isnan(value):
            colour = "black" if value > middle else "white"
            axis.text(j, i, digits(value), ha="center", va="center", fontsize=6, color=colour)
    figure.colorbar(image, ax=axis, shrink=0.85).set_label(label)


def _draw_bars(spec: Spec, cells: Cells, entry: FigureSpec) -> tuple[Figure, int]:
    metrics, n_drawn = entry.metric_names, 0
    figure, axes = panels(
        len(spec.datasets), len(metrics), width=panel_width(len(metrics)), height=2.3
    )
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
