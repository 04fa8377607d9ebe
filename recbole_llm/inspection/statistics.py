"""Sizes, degrees and the time span of a dataset."""

import datetime
from typing import Any

import numpy as np

from recbole_llm.inspection.view import View
from recbole_llm.splitting.protocols import Index

# Unix seconds from 1990 to 2100; other times are not shown as dates.
_CLOCK = (6.3e8, 4.1e9)


def statistics(view: View) -> dict[str, Any]:
    """Return counts, sparsity, degrees, sizes of the parts, and time span, as JSON content."""
    user_degree, item_degree = degrees(view.user), degrees(view.item)
    n = len(view.user)
    content: dict[str, Any] = {
        "n_users": len(user_degree),
        "n_items": len(item_degree),
        "n_interactions": n,
        "sparsity": 1 - n / len(user_degree) / len(item_degree),
        "user_degree": _summary(user_degree),
        "item_degree": _summary(item_degree),
        "protocol": view.protocol,
        "parts": [len(part) for part in view.parts],
    }
    if view.time is not None:
        span = [float(view.time.min()), float(view.time.max())]
        content["time"] = {"first": span[0], "last": span[1]}
        if is_clock(span):
            dates = [datetime.datetime.fromtimestamp(second, datetime.UTC) for second in span]
            content["time"] |= {
                "first_date": f"{dates[0]:%Y-%m-%d}",
                "last_date": f"{dates[1]:%Y-%m-%d}",
            }
            content["time"]["days"] = (span[1] - span[0]) / 86400
    return content


def degrees(ids: Index) -> Index:
    """Return the number of interactions of each id that has any, (n_active,) int64."""
    counts = np.bincount(ids)
    return counts[counts > 0]


def is_clock(span: list[float]) -> bool:
    """Whether times look like Unix seconds."""
    return _CLOCK[0] <= span[0] and span[1] <= _CLOCK[1]


def _summary(degree: Index) -> dict[str, float]:
    return {
        "min": int(degree.min()),
        "median": float(np.median(degree)),
        "mean": float(degree.mean()),
        "max": int(degree.max()),
    }
