"""What metrics beyond accuracy read of the data, by token."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from recbole_llm.data.loading import Split
from recbole_llm.runs.evaluated import all_tokens, known_items, popularity

#: Share of the least popular items that are the long tail where ``tail_ratio`` is not set.
_TAIL_RATIO = 0.1


class Catalogue(NamedTuple):
    """What metrics beyond accuracy read of the data and the settings.

    Attributes:
        n_items: number of items, padding not counted.
        popularity: training interactions of each item that has one, in the order of item ids.
        profiles: training items of every user, in the order of user ids; some may be empty.
        item_users: number of training users of each item that has one.
        settings: the run's settings.
    """

    n_items: int
    popularity: Mapping[str, int]
    profiles: Mapping[str, set[str]]
    item_users: Mapping[str, int]
    settings: Mapping[str, Any]

    def tail(self) -> set[str]:
        """Return the items of the long tail.

        They are the share ``tail_ratio`` of the items of ``popularity``, or, above 1, those of at
        most that many interactions.
        """
        ratio = self.settings.get("tail_ratio") or 0.0
        if ratio <= 0:
            ratio = _TAIL_RATIO
        if ratio > 1:
            return {item for item, count in self.popularity.items() if count <= ratio}
        rarest = sorted(self.popularity, key=self.popularity.__getitem__)  # stable: ties by id
        return set(rarest[: max(int(len(rarest) * ratio), 1)])

    def active(self, users: Sequence[str]) -> set[str]:
        """Return the most active of some users: ``active_users`` is their share."""
        chosen = set(users)
        ordered = [user for user in self.profiles if user in chosen]  # ties by id
        ordered.sort(key=lambda user: -len(self.profiles[user]))
        return set(ordered[: max(1, round(self.settings["active_users"] * len(ordered)))])


def catalogue_of(split: Split, settings: Mapping[str, Any]) -> Catalogue:
    """Return the items, and the training part by user and by item.

    Args:
        split: dataset and its parts.
        settings: the run's settings, by key.
    """
    known = known_items([split.train])
    users = all_tokens(split.dataset, split.dataset.uid_field)[1:]
    profiles = {user: known.get(user, set()) for user in users}
    item_users = Counter(item for items in profiles.values() for item in items)
    n_items = split.dataset.item_num - 1
    return Catalogue(n_items, popularity(split.train), profiles, item_users, settings)
