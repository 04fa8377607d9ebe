"""Learning curves: the validation metric of each row by epoch, with a band over seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recbole_llm.plotting import (
    figure_style,
    line_style,
    panel_width,
    panels,
    plain_text,
    save_figure,
    shade,
)
from recbole_llm.report.cells import Cell, Cells
from recbole_llm.report.records import Run
from recbole_llm.report.text import short_metric
from recbole_llm.sweep.spec import Spec

_MOST_NAMED = 8  # lines that a legend names; of more, the first and the last
_COLUMNS = 3  # panels next to each other


class Curve(NamedTuple):
    """A metric by epoch.

    Attributes:
        label: name of the row, with its point of the grid.
        epochs: epochs that every seed has, counted from 1.
        mean: mean over seeds, one for each epoch.
        std: sample standard deviation over seeds; None for a single seed.
    """

    label: str
    epochs: list[int]
    mean: np.ndarray
    std: np.ndarray | None


def draw_curves(spec: Spec, cells: Cells, stem: Path) -> tuple[list[Path], str]:
    """Draw a panel for each dataset.

    Args:
        spec: experiment.
        cells: its runs.
        stem: path of the files without a suffix.

    Returns:
        The PDF and the PNG, or no file if no record has validations by epoch; and a caption.
    """
    metric = spec.metric.lower()
    by_dataset = {dataset: curves(spec, cells, dataset, metric) for dataset in spec.datasets}
    found = {dataset: lines for dataset, lines in by_dataset.items() if lines}
    if not found:
        return [], ""
    n_rows, n_columns = -(-len(found) // _COLUMNS), min(len(found), _COLUMNS)
    with figure_style():
        width = panel_width(n_columns)
        figure, axes = panels(n_rows, n_columns, width=width, height=2.3)
        for axis in axes.flat[len(found) :]:
            axis.set_axis_off()
        for axis, (dataset, lines) in zip(axes.flat, found.items(), strict=False):
            _draw_panel(axis, dataset, lines)
            axis.set_ylabel(f"{short_metric(metric)} (validation)")
        files = save_figure(figure, stem)
    return files, _caption(metric, [line for lines in found.values() for line in lines])


def curves(spec: Spec, cells: Cells, dataset: str, metric: str) -> list[Curve]:
    """Return the curve of each row and point of the grid whose runs validated by epoch."""
    found = []
    for row in spec.rows:
        for point in spec.grid:
            values = ", ".join(f"{key} = {value}" for key, value in point.items())
            names = [row.label] if len(spec.rows) > 1 or not values else []
            label = ", ".join([*names, *([values] if values else [])])
            curve = _curve(label, cells.get(dataset, row, point), metric)
            found += [curve] if curve else []
    return found


def _curve(label: str, cell: Cell, metric: str) -> Curve | None:
    histories = [] if cell.problem else [_history(run, metric) for run in cell.runs]
    histories = [history for history in histories if history]
    shared = sorted(set.intersection(*map(set, histories))) if histories else []
    if len(shared) < 2:
        return None
    values = np.array([[history[epoch] for epoch in shared] for history in histories])
    std = values.std(axis=0, ddof=1) if len(values) > 1 else None
    return Curve(label, shared, values.mean(axis=0), std)


def _history(run: Run, metric: str) -> dict[int, float]:
    """Return a run's metric by epoch, counted from 1; a validation may skip epochs."""
    history = {}
    for entry in run.record.epochs:
        epoch, valid = entry.get("epoch"), entry.get("valid")
        value = valid.get(metric) if isinstance(valid, dict) else None
        if isinstance(epoch, int) and isinstance(value, (int, float)) and np.isfinite(value):
            history[epoch + 1] = float(value)
    return history


def _draw_panel(axis: Any, dataset: str, lines: Sequence[Curve]) -> None:
    for i, line in enumerate(lines):
        if len(lines) <= _MOST_NAMED:
            style = line_style(i)
            look: dict[str, Any] = {
                "color": style.colour,
                "linestyle": style.dashes,
                "marker": style.marker,
            }
            look["markevery"] = max(1, len(line.epochs) // 8)
        else:
            look = {"color": shade(i / (len(lines) - 1))}
        is_named = len(lines) <= _MOST_NAMED or i in (0, len(lines) - 1)
        label = plain_text(line.label) if is_named else "_"
        axis.plot(line.epochs, line.mean, linewidth=1, label=label, **look)
        if line.std is not None:
            low, high = line.mean - line.std, line.mean + line.std
            axis.fill_between(line.epochs, low, high, color=look["color"], alpha=0.15, linewidth=0)
    axis.set_title(plain_text(dataset))
    axis.set_xlabel("epoch")
    axis.xaxis.get_major_locator().set_params(integer=True)
    if len(lines) > 1:
        axis.legend(fontsize=6)


def _caption(metric: str, lines: Sequence[Curve]) -> str:
    band = any(line.std is not None for line in lines)
    over = ", mean over seeds; the band is one standard deviation over seeds" if band else ""
    parts = [f"{short_metric(metric)} on validation after each epoch{over}"]
    if len(lines) > _MOST_NAMED:
        parts.append("Of many lines the legend names the first and the last")
    return ". ".join(parts) + "."
