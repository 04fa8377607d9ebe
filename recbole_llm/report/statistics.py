"""Means over seeds, improvements, and paired tests on per-user metrics, Holm-corrected."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from recbole_llm.runs.rankings import read_rankings

Vector = NDArray[np.float64]
#: Metrics whose value for each user can be computed from saved lists.
TESTED = ("recall", "ndcg", "hit", "precision", "mrr")


class PValues(NamedTuple):
    """Two-sided p-values of the paired tests."""

    wilcoxon: float
    t: float


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation (n - 1), None of a single value."""
    array = np.asarray(values, dtype=float)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None


def improvement(ours: float, other: float) -> float | None:
    """Return by how many percent ``ours`` is above ``other``; None if ``other`` is zero."""
    return 100 * (ours - other) / other if other else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, in the order given.

    The i-th smallest of m p-values, counted from 0, is multiplied by m - i, and is then raised to
    the adjusted value before it if it is smaller.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for i, index in enumerate(np.argsort(np.asarray(p_values, dtype=float), kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - i) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def paired_tests(ours: Vector, other: Vector) -> PValues:
    """Test a metric of two rows, (n_users,) float64, the same users in order; equal rows: p = 1."""
    difference = ours - other
    if not difference.any():
        return PValues(1.0, 1.0)
    # Most users have the same value under both: Pratt's method keeps their ranks in the count.
    wilcoxon = stats.wilcoxon(difference, zero_method="pratt", method="approx")
    if len(difference) < 2 or difference.std() == 0:
        return PValues(float(wilcoxon.pvalue), float("nan"))
    return PValues(float(wilcoxon.pvalue), float(stats.ttest_rel(ours, other).pvalue))


def user_metric(lists: Path, metric: str) -> dict[str, float] | None:
    """Return each user's unrounded metric; a user with several lists has the mean over them.

    Args:
        lists: path of a run's saved lists, one JSON object a line.
        metric: a metric with its cut-off, such as ``recall@10``.

    Returns:
        The metric by the user's token; None if the file does not exist or its lines have no
        ``hits``, or if the metric has no cut-off or is not one of ``TESTED``.
    """
    name, _, cut = metric.partition("@")
    if name not in TESTED or not cut or not lists.is_file():
        return None
    k = int(cut)
    found: dict[str, list[float]] = {}
    for ranking in read_rankings(lists):
        if ranking.hits is None or ranking.n_positives is None:
            return None
        hits = np.array([rank for rank in ranking.hits if rank < k], dtype=float)
        value = _user_value(name, hits, ranking.n_positives, k)
        found.setdefault(ranking.user, []).append(value)
    return {user: float(np.mean(values)) for user, values in found.items()}


def _user_value(name: str, hits: Vector, n_positives: int, k: int) -> float:
    if name == "recall":
        return len(hits) / n_positives
    if name == "precision":
        return len(hits) / k
    if name == "hit":
        return float(len(hits) > 0)
    if name == "mrr":
        return float(1 / (hits.min() + 1)) if len(hits) else 0.0
    ideal = (1 / np.log2(np.arange(2, min(n_positives, k) + 2))).sum()
    return float((1 / np.log2(hits + 2)).sum() / ideal)
