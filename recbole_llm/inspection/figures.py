"""The figure of a dataset: degrees, and interactions over time."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llm.inspection.statistics import degrees, is_clock
from recbole_llm.inspection.view import View
from recbole_llm.plotting import FILLS, figure_style, line_style, panels, save_figure
from recbole_llm.splitting.protocols import Index

_BINS = 60


def draw_figure(view: View, stem: Path) -> list[Path]:
    """Draw the share of users and items with at least k interactions, and the times if known.

    Returns:
        The PDF and the PNG.
    """
    with figure_style():
        figure, axes = panels(1, 1 if view.time is None else 2)
        _draw_degrees(axes[0, 0], view)
        if view.time is not None:
            _draw_times(axes[0, 1], view.time)
        return save_figure(figure, stem)


def ccdf(degree: Index) -> tuple[Index, np.ndarray]:
    """Return the distinct degrees k, ascending, and the share of ids with at least k."""
    k, counts = np.unique(degree, return_counts=True)
    return k, counts[::-1].cumsum()[::-1] / len(degree)


def _draw_degrees(axis: Any, view: View) -> None:
    for i, (name, ids) in enumerate((("users", view.user), ("items", view.item))):
        style = line_style(i)
        curve = ccdf(degrees(ids))
        axis.loglog(*curve, style.dashes, color=style.colour, label=name, drawstyle="steps-pre")
    axis.set_xlabel("interactions k")
    axis.set_ylabel("share with at least k")
    axis.legend()


def _draw_times(axis: Any, time: np.ndarray) -> None:
    counts, edges = np.histogram(time, bins=_BINS)
    positions = edges.tolist()
    if is_clock([positions[0], positions[-1]]):
        positions = [datetime.datetime.fromtimestamp(edge, datetime.UTC) for edge in positions]
        axis.tick_params(axis="x", rotation=30)
    axis.set_axisbelow(True)
    axis.stairs(counts, positions, fill=True, color=FILLS[0])
    axis.set_xlabel("time")
    axis.set_ylabel("interactions")
