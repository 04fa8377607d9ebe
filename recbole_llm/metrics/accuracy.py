"""Accuracy of each user's list: F1, R-precision and rank-biased precision.

h(j) is the number of hits among a list's first j items, R the number of the user's positives.
"""

from typing import Any

import numpy as np
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.collector import DataStruct


class F1(TopkMetric):
    """Harmonic mean of precision and recall of each list, 2 h(k) / (k + R), averaged over lists.

    Reference: C. J. van Rijsbergen, "Information Retrieval", 2nd ed., 1979, chapter 7.
    """

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float]:
        """Return the metric at each cut-off."""
        hits, n_positives = self.used_info(dataobject)
        length = np.arange(1, hits.shape[1] + 1)
        value = 2 * hits.cumsum(axis=1) / (length + n_positives[:, np.newaxis])
        return self.topk_result("f1", value)


class RPrecision(TopkMetric):
    """Share of the R positives among the list's first R items, h(min(R, k)) / R.

    Equal to TREC's R-precision of the list that is cut at k.

    Reference: C. Buckley, E. M. Voorhees, "Evaluating Evaluation Measure Stability", SIGIR 2000.
    """

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float]:
        """Return the metric at each cut-off."""
        hits, n_positives = self.used_info(dataobject)
        length = np.arange(1, hits.shape[1] + 1)
        positives = n_positives[:, np.newaxis]
        last = np.minimum(length, positives) - 1
        found = np.take_along_axis(hits.cumsum(axis=1), last, axis=1)
        return self.topk_result("rprecision", found / positives)


class RBP(TopkMetric):
    """Rank-biased precision: hits seen by a user who reads on with probability p.

    (1 - p) sum_j p^(j - 1) [item j is a hit], j up to k.

    Config keys: ``rbp_persistence`` (p).

    Reference: A. Moffat, J. Zobel, "Rank-Biased Precision for Measurement of Retrieval
    Effectiveness", ACM TOIS 27(1), 2008.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.persistence = config["rbp_persistence"]

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float]:
        """Return the metric at each cut-off."""
        hits, _ = self.used_info(dataobject)
        weight = (1 - self.persistence) * self.persistence ** np.arange(hits.shape[1])
        return self.topk_result("rbp", (hits * weight).cumsum(axis=1))
