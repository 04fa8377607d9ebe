"""Metrics of all lists of a part together, computed from tokens by code of their own.

n is the number of lists; each has k items.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from recbole_llm.runs.catalogue import Catalogue


class Lists(NamedTuple):
    """Lists of one length, whose they are, and what the part holds of their users.

    Attributes:
        items: (n, k) items of each list, best first.
        users: (n,) user of each list.
        positives: (n,) items that the part holds.
    """

    items: Sequence[Sequence[str]]
    users: Sequence[str]
    positives: Sequence[set[str]]

    def shown(self) -> Counter[str]:
        """Return how many lists have each item that one has."""
        return Counter(item for items in self.items for item in items)


def _coverage(lists: Lists, catalogue: Catalogue) -> float:
    return len(lists.shown()) / catalogue.n_items


def _gini(lists: Lists, catalogue: Catalogue) -> float:
    """Return the Gini index of how often each item is recommended; items never shown count 0."""
    shown = lists.shown()
    counts = np.zeros(catalogue.n_items)
    counts[catalogue.n_items - len(shown) :] = sorted(shown.values())
    weight = 2 * np.arange(1, catalogue.n_items + 1) - catalogue.n_items - 1
    return float((weight * counts).sum() / (catalogue.n_items * counts.sum()))


def _entropy(lists: Lists, catalogue: Catalogue) -> float:
    counts = np.array(list(lists.shown().values()))
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum())


def _popularity(lists: Lists, catalogue: Catalogue) -> float:
    count = catalogue.popularity.get
    return float(np.mean([np.mean([count(item, 0) for item in items]) for items in lists.items]))


def _tail_percentage(lists: Lists, catalogue: Catalogue) -> float:
    tail = catalogue.tail()
    return float(np.mean([np.mean([item in tail for item in items]) for items in lists.items]))


def _novelty(lists: Lists, catalogue: Catalogue) -> float:
    n_users = sum(1 for profile in catalogue.profiles.values() if profile)
    bits = [
        math.log2(n_users) - math.log2(catalogue.item_users.get(item, 1))
        for items in lists.items
        for item in items
    ]
    return float(np.mean(bits))


def _popularity_lift(lists: Lists, catalogue: Catalogue) -> float:
    count = catalogue.item_users.get
    pairs = [
        (np.mean([count(item, 0) for item in items]), np.mean([count(item, 0) for item in profile]))
        for items, user in zip(lists.items, lists.users, strict=True)
        if (profile := catalogue.profiles[user])
    ]
    if not pairs:
        return 0.0
    shown, owned = np.mean(pairs, axis=0)
    return float((shown - owned) / owned)


def _cold_share(lists: Lists, catalogue: Catalogue) -> float:
    return float(np.mean([i not in catalogue.item_users for items in lists.items for i in items]))


def _personalization(lists: Lists, catalogue: Catalogue) -> float:
    n, k = len(lists.items), len(lists.items[0])
    common = sum(math.comb(count, 2) for count in lists.shown().values())
    return 1 - common / k / math.comb(n, 2) if n > 1 else 0.0


def _group_recall(lists: Lists, catalogue: Catalogue) -> tuple[float, float]:
    """Return the mean recall of the lists of active users, and of the other ones."""
    active = catalogue.active(lists.users)
    found: dict[bool, list[float]] = {True: [], False: []}
    for items, user, held in zip(*lists, strict=True):
        found[user in active].append(len(held.intersection(items)) / len(held))
    return float(np.mean(found[True])), float(np.mean(found[False] or [0.0]))


#: Metrics beyond accuracy of one list: functions of all lists and of the catalogue.
LIST_METRICS: dict[str, Callable[[Lists, Catalogue], float]] = {
    "itemcoverage": _coverage,
    "giniindex": _gini,
    "shannonentropy": _entropy,
    "averagepopularity": _popularity,
    "tailpercentage": _tail_percentage,
    "novelty": _novelty,
    "popularitylift": _popularity_lift,
    "colditemshare": _cold_share,
    "personalization": _personalization,
    "activeuserrecall": lambda lists, catalogue: _group_recall(lists, catalogue)[0],
    "inactiveuserrecall": lambda lists, catalogue: _group_recall(lists, catalogue)[1],
    "usergroupgap": lambda lists, catalogue: abs(np.subtract(*_group_recall(lists, catalogue))),
}
