"""Metrics of each user, from the ranked lists that a run has kept."""

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recbole_llm.report.statistics import Vector
from recbole_llm.runs.rankings import UserRanking, read_rankings

#: Metrics whose value for each user can be computed from saved lists.
TESTED = ("recall", "ndcg", "hit", "precision", "mrr")


@dataclasses.dataclass
class Hits:
    """The hits of a run's ranked lists on one part.

    Attributes:
        users: token of each list's user; a sequential model may have several lists of a user.
        n_positives: (n_lists,) int64 number of items that the part holds of each list's user.
        ranks: (n_hits,) int64 ranks of the hits, from 0.
        lists: (n_hits,) int64 index of the list that each hit is in.
        length: length of the longest list; None if the lists hold no items.
    """

    users: list[str]
    n_positives: NDArray[np.int64]
    ranks: NDArray[np.int64]
    lists: NDArray[np.int64]
    length: int | None

    def values(self, metric: str) -> Vector | None:
        """Return a metric of each list, (n_lists,) float64, unrounded.

        Returns None if the metric is not one of ``TESTED``, or has no cut-off, or a larger one
        than the lists are long.
        """
        name, _, cut = metric.partition("@")
        k, n = int(cut) if cut.isdecimal() else 0, len(self.users)
        if name not in TESTED or not 1 <= k <= (self.length or k):
            return None
        ranks, lists = self.ranks[self.ranks < k], self.lists[self.ranks < k]
        if name == "ndcg":
            ideal = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
            gained = np.bincount(lists, 1 / np.log2(ranks + 2), minlength=n)
            return gained / ideal[np.minimum(self.n_positives, k) - 1]
        if name == "mrr":
            inverse = np.zeros(n)
            np.maximum.at(inverse, lists, 1 / (ranks + 1))
            return inverse
        counts = np.bincount(lists, minlength=n).astype(float)
        if name == "hit":
            return np.minimum(counts, 1)
        return counts / (self.n_positives if name == "recall" else k)


def read_hits(path: Path) -> Hits | None:
    """Read the hits of a run's lists.

    Args:
        path: file of the lists, one JSON object a line.

    Returns:
        The hits; None if the file does not exist or its lists have no ``hits``.

    Raises:
        ValueError: a line is malformed, or its hits are not ranks; the text names it.
    """
    if not path.is_file():
        return None
    users, n_positives, ranks, lists, length = [], [], [], [], 0
    for i, ranking in enumerate(read_rankings(path)):
        if ranking.hits is None or ranking.n_positives is None:
            return None
        _check_hits(ranking, f"{path}, line {i + 1}")
        users.append(ranking.user)
        n_positives.append(ranking.n_positives)
        ranks += ranking.hits
        lists += [i] * len(ranking.hits)
        length = max(length, len(ranking.items))
    if not users:
        raise ValueError(f"{path} holds no list.")
    arrays = [np.array(values, dtype=np.int64) for values in (n_positives, ranks, lists)]
    return Hits(users, arrays[0], arrays[1], arrays[2], length or None)


def _check_hits(ranking: UserRanking, where: str) -> None:
    hits, n_positives = ranking.hits, ranking.n_positives
    right = isinstance(hits, list) and all(type(rank) is int and rank >= 0 for rank in hits)
    if not right or len(set(hits or ())) < len(hits or ()):
        raise ValueError(f"{where}: hits must be different ranks from 0, got {hits!r:.80}.")
    if type(n_positives) is not int or not max(1, len(hits or ())) <= n_positives < 2**31:
        raise ValueError(
            f"{where}: n_positives must be a number of items, at least the {len(hits or ())} that "
            f"are hit, got {n_positives!r:.80}."
        )


def user_metric(lists: Path, metric: str) -> dict[str, float] | None:
    """Return each user's unrounded metric; a user with several lists has the mean over them.

    Args:
        lists: path of a run's saved lists, one JSON object a line.
        metric: a metric with its cut-off, such as ``recall@10``.

    Returns:
        The metric by the user's token; None if the file does not exist or its lines have no
        ``hits``, or if the lists do not determine the metric, see ``Hits.values``.

    Raises:
        ValueError: a line of the file is malformed.
    """
    hits = read_hits(lists)
    values = None if hits is None else hits.values(metric)
    if hits is None or values is None:
        return None
    found: dict[str, list[float]] = {}
    for user, value in zip(hits.users, values.tolist(), strict=True):
        found.setdefault(user, []).append(value)
    return {user: float(np.mean(values)) for user, values in found.items()}
