"""Figures of a grid of runs: lines with a band over seeds, heat maps, bars. Readable in grey."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llm.report.cells import Cells
from recbole_llm.report.render import short
from recbole_llm.sweep.space import Value
from recbole_llm.sweep.spec import Row, Spec

_STYLES = [("-", "o", "0.0"), ("--", "s", "0.45"), (":", "^", "0.25"), ("-.", "D", "0.6")]


def draw(
    spec: Spec, cells: Cells, figure: dict[str, Any], stem: Path
) -> tuple[list[Path], list[str]]:
    """Draw one figure of a spec, a panel a data set.

    Returns:
        The files, PDF and PNG, none where there is no run; and what must be said.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    notes = [f"{stem.name}: drawn on the {_part_name(figure)} split."]
    with mpl.rc_context({"font.size": 9, "axes.grid": True, "grid.color": "0.9"}):
        draw_kind = {"line": _lines, "heatmap": _heatmaps, "bars": _bars}[figure["kind"]]
        drawn, n_points = draw_kind(spec, cells, figure)
        if not n_points:
            plt.close(drawn)
            return [], [f"{stem.name}: no run."]
        drawn.tight_layout()
        files = [stem.with_suffix(suffix) for suffix in (".pdf", ".png")]
        for path in files:
            drawn.savefig(path, dpi=200)
        plt.close(drawn)
    wanted = len(spec.datasets) * len(spec.rows) * len(_points(spec, _axes_of(figure)))
    n_cells = n_points if figure["kind"] == "heatmap" else n_points // len(_metrics(figure))
    if n_cells < wanted:
        notes.append(f"{stem.name}: {wanted - n_cells} of {wanted} points have no run.")
    return files, notes


def _axes_of(figure: dict[str, Any]) -> list[str]:
    return [figure[axis] for axis in ("x", "y") if axis in figure]


def _points(spec: Spec, keys: Sequence[str]) -> list[dict[str, Value]]:
    """Return the grid's points that set exactly these keys."""
    return [point for point in spec.grid if set(point) == set(keys)]


def _metrics(figure: dict[str, Any]) -> list[str]:
    return [str(metric).lower() for metric in figure.get("metrics") or ["recall@20"]]


def _part_name(figure: dict[str, Any]) -> str:
    return {"valid": "validation", "test": "test"}[figure["part"]]


def _lines(spec: Spec, cells: Cells, figure: dict[str, Any]) -> tuple[Any, int]:
    from matplotlib import pyplot as plt

    metrics, key, n_points = _metrics(figure), figure["x"], 0
    drawn, axes = plt.subplots(
        len(metrics),
        len(spec.datasets),
        figsize=(2.8 * len(spec.datasets) + 0.4, 2.1 * len(metrics) + 0.3),
        squeeze=False,
        sharex=True,
    )
    points = _points(spec, [key])
    ticks = list(range(len(points)))  # as in the papers: values stand at equal distances
    for i, metric in enumerate(metrics):
        for j, dataset in enumerate(spec.datasets):
            axis = axes[i, j]
            for row, style in zip(spec.rows, _STYLES * len(spec.rows), strict=False):
                n_points += _line(axis, cells, dataset, row, points, figure["part"], metric, style)
            axis.set_xticks(ticks, [str(point[key]) for point in points])
            axis.set_xlim(-0.3, len(points) - 0.7)
            if i == 0:
                axis.set_title(dataset, fontsize=9)
            if i == len(metrics) - 1:
                axis.set_xlabel(str(figure.get("symbol", key)))
            if j == 0:
                axis.set_ylabel(f"{short(metric)} ({_part_name(figure)})")
    if len(spec.rows) > 1:
        axes[0, 0].legend(fontsize=7)
    return drawn, n_points


def _line(
    axis: Any,
    cells: Cells,
    dataset: str,
    row: Row,
    points: Sequence[dict[str, Value]],
    part: str,
    metric: str,
    style: tuple[str, str, str],
) -> int:
    """Draw one row's line, with a band of one standard deviation where there are several seeds."""
    found = [
        (i, stats)
        for i, point in enumerate(points)
        if (stats := cells.get(dataset, row, point).mean_std(part, metric)) is not None
    ]
    if not found:
        return 0
    at = [i for i, _ in found]
    mean = np.array([stats[0] for _, stats in found])
    std = np.array([stats[1] or 0.0 for _, stats in found])
    line, marker, colour = style
    axis.plot(at, mean, line, marker=marker, color=colour, markersize=4, label=row.label)
    axis.fill_between(at, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)
    return len(found)


def _heatmaps(spec: Spec, cells: Cells, figure: dict[str, Any]) -> tuple[Any, int]:
    from matplotlib import pyplot as plt

    metric, x, y = _metrics(figure)[0], figure["x"], figure["y"]
    panels = [(dataset, row) for dataset in spec.datasets for row in spec.rows]
    drawn, axes = plt.subplots(
        1, len(panels), figsize=(3.1 * len(panels) + 0.5, 2.9), squeeze=False
    )
    points = _points(spec, [x, y])
    xs = list(dict.fromkeys(point[x] for point in points))
    ys = list(dict.fromkeys(point[y] for point in points))
    n_points = 0
    for axis, (dataset, row) in zip(axes[0], panels, strict=True):
        grid = np.full((len(ys), len(xs)), np.nan)
        for point in points:
            stats = cells.get(dataset, row, point).mean_std(figure["part"], metric)
            if stats is not None:
                grid[ys.index(point[y]), xs.index(point[x])] = stats[0]
                n_points += 1
        title = dataset if len(spec.rows) == 1 else f"{row.label} on {dataset}"
        axis.set_title(title, fontsize=9)
        axis.set_xticks(range(len(xs)), map(str, xs))
        axis.set_yticks(range(len(ys)), map(str, ys))
        axis.set_xlabel(str(figure.get("x_symbol", x)))
        axis.set_ylabel(str(figure.get("y_symbol", y)))
        axis.grid(False)
        if np.isnan(grid).all():
            continue
        image = axis.imshow(grid, origin="lower", cmap="Greys", aspect="auto")
        middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
        for (i, j), value in np.ndenumerate(grid):
            if not np.isnan(value):
                colour = "white" if value > middle else "black"
                text = f"{value:.4f}".removeprefix("0")
                axis.text(j, i, text, ha="center", va="center", fontsize=6, color=colour)
        bar = drawn.colorbar(image, ax=axis, shrink=0.85)
        bar.set_label(f"{short(metric)} ({_part_name(figure)})")
    return drawn, n_points


def _bars(spec: Spec, cells: Cells, figure: dict[str, Any]) -> tuple[Any, int]:
    from matplotlib import pyplot as plt

    metrics, n_points = _metrics(figure), 0
    drawn, axes = plt.subplots(
        len(spec.datasets),
        len(metrics),
        figsize=(3.4 * len(metrics) + 0.4, 2.6 * len(spec.datasets)),
        squeeze=False,
    )
    for i, dataset in enumerate(spec.datasets):
        for j, metric in enumerate(metrics):
            axis = axes[i, j]
            for at, row in enumerate(spec.rows):
                stats = cells.get(dataset, row).mean_std(figure["part"], metric)
                if stats is None:
                    continue
                n_points += 1
                axis.bar(
                    at,
                    stats[0],
                    yerr=stats[1],
                    color=str(0.85 - 0.3 * (at % 2)),
                    edgecolor="black",
                    hatch=["", "///"][at % 2],
                    capsize=3,
                )
            axis.set_xticks(
                range(len(spec.rows)),
                [row.label for row in spec.rows],
                rotation=30,
                ha="right",
                rotation_mode="anchor",
            )
            axis.set_axisbelow(True)
            axis.set_title(dataset, fontsize=9)
            axis.set_ylabel(f"{short(metric)} ({_part_name(figure)})")
    return drawn, n_points
