"""RecBole's ranking metrics, computed from lists of tokens by code of their own.

B is the number of lists, k the cut-off. A list has at most k items.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

#: Share of the least popular items that are the long tail where ``tail_ratio`` is not set.
_TAIL_RATIO = 0.1


class Catalogue(NamedTuple):
    """What metrics beyond accuracy read of the data.

    Attributes:
        n_items: number of items, padding not counted.
        popularity: training interactions of each item that has one, in the order of item ids.
        tail_ratio: share of the items of ``popularity`` that are the long tail, or, above 1, the
            highest number of interactions of an item of the tail.
    """

    n_items: int
    popularity: Mapping[str, int]
    tail_ratio: float | None

    def tail(self) -> set[str]:
        """Return the items of the long tail."""
        ratio = self.tail_ratio or 0.0
        if ratio <= 0:
            ratio = _TAIL_RATIO
        if ratio > 1:
            return {item for item, count in self.popularity.items() if count <= ratio}
        rarest = sorted(self.popularity, key=self.popularity.__getitem__)  # stable: ties by id
        return set(rarest[: max(int(len(rarest) * ratio), 1)])


def _gains(items: Sequence[str], positives: set[str]) -> np.ndarray:
    return np.array([item in positives for item in items], dtype=float)


def _ndcg(items: Sequence[str], positives: set[str], k: int) -> float:
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = discount[: min(len(positives), k)].sum()
    return float((_gains(items, positives) * discount[: len(items)]).sum() / ideal)


def _mrr(items: Sequence[str], positives: set[str], k: int) -> float:
    hits = np.flatnonzero(_gains(items, positives))
    return float(1 / (hits[0] + 1)) if len(hits) else 0.0


def _average_precision(items: Sequence[str], positives: set[str], k: int) -> float:
    gains = _gains(items, positives)
    precision = gains.cumsum() / np.arange(1, len(gains) + 1)
    return float((precision * gains).sum() / min(len(positives), k))


#: Accuracy of one list: functions of its first k items, the user's positives, and k.
USER_METRICS: dict[str, Callable[[Sequence[str], set[str], int], float]] = {
    "recall": lambda items, pos, k: float(_gains(items, pos).sum() / len(pos)),
    "precision": lambda items, pos, k: float(_gains(items, pos).sum() / k),
    "hit": lambda items, pos, k: float(_gains(items, pos).any()),
    "mrr": _mrr,
    "ndcg": _ndcg,
    "map": _average_precision,
}


def _coverage(lists: Sequence[Sequence[str]], catalogue: Catalogue) -> float:
    return len({item for items in lists for item in items}) / catalogue.n_items


def _gini(lists: Sequence[Sequence[str]], catalogue: Catalogue) -> float:
    """Return the Gini index of how often each item is recommended; items never shown count 0."""
    shown = Counter(item for items in lists for item in items)
    counts = np.zeros(catalogue.n_items)
    counts[catalogue.n_items - len(shown) :] = sorted(shown.values())
    weight = 2 * np.arange(1, catalogue.n_items + 1) - catalogue.n_items - 1
    return float((weight * counts).sum() / (catalogue.n_items * counts.sum()))


def _entropy(lists: Sequence[Sequence[str]], catalogue: Catalogue) -> float:
    counts = np.array(list(Counter(item for items in lists for item in items).values()))
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum())


def _popularity(lists: Sequence[Sequence[str]], catalogue: Catalogue) -> float:
    means = [np.mean([catalogue.popularity.get(item, 0) for item in items]) for items in lists]
    return float(np.mean(means))


def _tail_percentage(lists: Sequence[Sequence[str]], catalogue: Catalogue) -> float:
    tail = catalogue.tail()
    return float(np.mean([np.mean([item in tail for item in items]) for items in lists]))


#: Metrics beyond accuracy: functions of all lists, (B, k), and of the catalogue.
LIST_METRICS: dict[str, Callable[[Sequence[Sequence[str]], Catalogue], float]] = {
    "itemcoverage": _coverage,
    "giniindex": _gini,
    "shannonentropy": _entropy,
    "averagepopularity": _popularity,
    "tailpercentage": _tail_percentage,
}


def recompute(
    name: str,
    lists: Sequence[Sequence[str]],
    positives: Sequence[set[str]],
    catalogue: Catalogue,
) -> float | None:
    """Return a metric of lists, or None where it does not follow from them.

    Args:
        name: name with its cut-off, such as ``recall@10``.
        lists: items of each list, best first.
        positives: items that the part holds, for each list.
        catalogue: items of the dataset.
    """
    metric, _, cut = name.partition("@")
    if not cut.isdecimal() or not int(cut) or not lists:
        return None
    k = int(cut)
    shortened = [items[:k] for items in lists]
    if metric in USER_METRICS:
        function = USER_METRICS[metric]
        return float(
            np.mean([function(*pair, k) for pair in zip(shortened, positives, strict=True)])
        )
    if metric in LIST_METRICS and all(len(items) == k for items in shortened):
        return LIST_METRICS[metric](shortened, catalogue)
    return None
