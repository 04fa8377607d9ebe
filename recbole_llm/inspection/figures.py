"""The figure of a data set: degrees, and interactions over time."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llm.inspection.statistics import degrees, is_clock
from recbole_llm.inspection.view import View
from recbole_llm.splitting.protocols import Index

_STYLES = {"users": ("-", "0.0"), "items": ("--", "0.45")}
_BINS = 60


def draw(view: View, stem: Path) -> list[Path]:
    """Draw the share of users and items with at least k interactions, and the times if any.

    Returns:
        The PDF and the PNG.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    n_panels = 1 if view.time is None else 2
    with mpl.rc_context({"font.size": 9, "axes.grid": True, "grid.color": "0.9"}):
        figure, axes = plt.subplots(1, n_panels, figsize=(3.2 * n_panels + 0.2, 2.4), squeeze=False)
        _degrees(axes[0, 0], view)
        if view.time is not None:
            _times(axes[0, 1], view.time)
        figure.tight_layout()
        files = [stem.with_suffix(suffix) for suffix in (".pdf", ".png")]
        for path in files:
            # Without the date of now, the same data gives the same bytes.
            metadata = {"CreationDate": None} if path.suffix == ".pdf" else None
            figure.savefig(path, dpi=200, metadata=metadata)
        plt.close(figure)
    return files


def ccdf(degree: Index) -> tuple[Index, np.ndarray]:
    """Return the distinct degrees k, ascending, and the share of ids with at least k."""
    k, counts = np.unique(degree, return_counts=True)
    return k, counts[::-1].cumsum()[::-1] / len(degree)


def _degrees(axis: Any, view: View) -> None:
    for name, ids in (("users", view.user), ("items", view.item)):
        line, colour = _STYLES[name]
        axis.loglog(*ccdf(degrees(ids)), line, color=colour, label=name, drawstyle="steps-pre")
    axis.set_xlabel("interactions k")
    axis.set_ylabel("share with at least k")
    axis.legend(fontsize=7)


def _times(axis: Any, time: np.ndarray) -> None:
    counts, edges = np.histogram(time, bins=_BINS)
    at = edges.tolist()
    if is_clock([at[0], at[-1]]):
        at = [datetime.datetime.fromtimestamp(edge, datetime.UTC) for edge in at]
        axis.tick_params(axis="x", rotation=30)
    axis.set_axisbelow(True)
    axis.stairs(counts, at, fill=True, color="0.6")
    axis.set_xlabel("time")
    axis.set_ylabel("interactions")
