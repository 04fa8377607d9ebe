"""Means over seeds, improvements, and paired tests, Holm-corrected."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from recbole_llm.metrics.register import smaller_metrics

Vector = NDArray[np.float64]


class PValues(NamedTuple):
    """Two-sided p-values of the paired tests."""

    wilcoxon: float
    t: float


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation (n - 1), None of a single value."""
    array = np.asarray(values, dtype=float)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None


def smaller_is_better(metric: str) -> bool:
    """Whether a smaller value of a metric is better, such as of ``giniindex@10``."""
    return metric.partition("@")[0].lower() in smaller_metrics


def improvement(ours: float, other: float, smaller: bool = False) -> float | None:
    """Return by how many percent ``ours`` is better than ``other``; None if ``other`` is zero.

    Args:
        ours: value of the row that is compared.
        other: value that it is compared with.
        smaller: whether a smaller value is better.
    """
    difference = other - ours if smaller else ours - other
    return 100 * difference / abs(other) if other else None


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
