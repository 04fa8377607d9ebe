"""Paired tests of a table's compared row against each other row, on every column."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from recbole_llm.report.cells import Cell, Cells
from recbole_llm.report.statistics import Vector, holm, paired_tests
from recbole_llm.report.user_metrics import user_metric
from recbole_llm.runs.rankings import rankings_path
from recbole_llm.sweep.spec import Row

SIGNIFICANT = 0.05  # a p-value below it marks a difference


class Column(NamedTuple):
    """A dataset and a metric."""

    dataset: str
    metric: str


class Comparison(NamedTuple):
    """The compared row against one other row on one column.

    Attributes:
        column: dataset and metric.
        other: label of the other row.
        n_users: users of both rows whose metric is compared.
        wilcoxon: two-sided p-value of Wilcoxon's test, adjusted over the table.
        t: two-sided p-value of the paired t test, adjusted over the table; 1 if it is undefined.
    """

    column: Column
    other: str
    n_users: int
    wilcoxon: float
    t: float

    @property
    def is_significant(self) -> bool:
        """Whether both tests reject equality."""
        return max(self.wilcoxon, self.t) < SIGNIFICANT


def compare_rows(
    cells: Cells, columns: Sequence[Column], compared: Row, others: Sequence[Row]
) -> tuple[list[Comparison], list[str]]:
    """Test one row against others on every column, with Holm's correction over all tests.

    Returns:
        The comparisons, column by column; and labels such as ``BPR on beauty`` of the rows that
        cannot be tested, because the runs have no lists of the same users and seeds.
    """
    raw: list[Comparison] = []
    untested = set()
    for column in columns:
        ours = cells.get(column.dataset, compared)
        if not ours.values("test", column.metric):
            continue
        for row in others:
            theirs = cells.get(column.dataset, row)
            if not theirs.runs:
                continue
            pair = _paired(ours, theirs, column.metric)
            if pair is None:
                untested.add(f"{row.label} on {column.dataset}")
            else:
                raw.append(Comparison(column, row.label, len(pair[0]), *paired_tests(*pair)))
    wilcoxon = holm([test.wilcoxon for test in raw])
    t = holm([test.t if np.isfinite(test.t) else 1.0 for test in raw])
    adjusted = [
        test._replace(wilcoxon=p_wilcoxon, t=p_t)
        for test, p_wilcoxon, p_t in zip(raw, wilcoxon, t, strict=True)
    ]
    return adjusted, sorted(untested)


def _paired(ours: Cell, theirs: Cell, metric: str) -> tuple[Vector, Vector] | None:
    """Return both rows' metric of each user, averaged over the seeds that both have."""
    by_seed = {run.record.seed: run for run in theirs.runs}
    by_user: dict[str, list[tuple[float, float]]] = {}
    for run in ours.runs:
        other = by_seed.get(run.record.seed)
        if other is None:
            continue
        if other.record.data.get("split") != run.record.data.get("split"):
            return None
        our_values = user_metric(rankings_path(run.path, "test"), metric)
        their_values = user_metric(rankings_path(other.path, "test"), metric)
        if our_values is None or their_values is None or set(our_values) != set(their_values):
            return None
        for user, value in our_values.items():
            by_user.setdefault(user, []).append((value, their_values[user]))
    if not by_user:
        return None
    means: np.ndarray[Any, Any] = np.array(  # (n_users, 2)
        [np.mean(by_user[user], axis=0) for user in sorted(by_user)]
    )
    return means[:, 0], means[:, 1]
