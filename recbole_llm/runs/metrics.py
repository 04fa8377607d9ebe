"""Ranking metrics, RecBole's and ours, computed from lists of tokens by code of their own.

B is the number of lists, k the cut-off. A list has at most k items.
"""

from collections.abc import Callable, Sequence

import numpy as np

from recbole_llm.runs.catalogue import Catalogue
from recbole_llm.runs.list_metrics import LIST_METRICS, Lists


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


def _f1(items: Sequence[str], positives: set[str], k: int) -> float:
    n_hits = _gains(items, positives).sum()
    precision, recall = n_hits / k, n_hits / len(positives)
    return float(2 * precision * recall / (precision + recall)) if n_hits else 0.0


def _r_precision(items: Sequence[str], positives: set[str], k: int) -> float:
    return float(_gains(items[: len(positives)], positives).sum() / len(positives))


def _rbp(items: Sequence[str], positives: set[str], persistence: float) -> float:
    gains = _gains(items, positives)
    return float((1 - persistence) * (gains * persistence ** np.arange(len(gains))).sum())


#: Accuracy of one list: functions of its first k items, the user's positives, and k.
USER_METRICS: dict[str, Callable[[Sequence[str], set[str], int], float]] = {
    "recall": lambda items, pos, k: float(_gains(items, pos).sum() / len(pos)),
    "precision": lambda items, pos, k: float(_gains(items, pos).sum() / k),
    "hit": lambda items, pos, k: float(_gains(items, pos).any()),
    "mrr": _mrr,
    "ndcg": _ndcg,
    "map": _average_precision,
    "f1": _f1,
    "rprecision": _r_precision,
}


# Settings that a metric reads.
_SETTING_OF = {"rbp": "rbp_persistence"} | dict.fromkeys(
    ("activeuserrecall", "inactiveuserrecall", "usergroupgap"), "active_users"
)


def recompute(name: str, lists: Lists, catalogue: Catalogue) -> float | None:
    """Return a metric of lists, or None where it does not follow from them.

    Args:
        name: name with its cut-off, such as ``recall@10``.
        lists: lists of any length, their users and positives.
        catalogue: items of the dataset, training, and settings.
    """
    metric, _, cut = name.partition("@")
    if not cut.isdecimal() or not int(cut) or not lists.items:
        return None
    setting = _SETTING_OF.get(metric)
    if setting and not isinstance(catalogue.settings.get(setting), float):
        return None
    k = int(cut)
    shortened = lists._replace(items=[items[:k] for items in lists.items])
    pairs = list(zip(shortened.items, lists.positives, strict=True))
    if metric in USER_METRICS:
        return float(np.mean([USER_METRICS[metric](*pair, k) for pair in pairs]))
    if metric == "rbp":
        persistence = catalogue.settings["rbp_persistence"]
        return float(np.mean([_rbp(*pair, persistence) for pair in pairs]))
    if metric in LIST_METRICS and all(len(items) == k for items in shortened.items):
        return float(LIST_METRICS[metric](shortened, catalogue))
    return None
