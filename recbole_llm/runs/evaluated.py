"""A part of the split as its lists must fit it: who is ranked, what is held and what is hidden."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from recbole.data.dataset import Dataset, SequentialDataset

from recbole_llm.data.loader import interaction_pairs
from recbole_llm.data.loading import Split
from recbole_llm.runs.rankings import UserRanking


class Evaluated(NamedTuple):
    """One part of a split and the lists that were read for it.

    Attributes:
        part: "valid" or "test".
        dataset: interactions of the part.
        history: parts that a user is known by.
        rankings: lists in the order of their file.
        positives: items that the part holds, for each list.
    """

    part: str
    dataset: Dataset
    history: list[Dataset]
    rankings: list[UserRanking]
    positives: list[set[str]]

    @property
    def is_sequential(self) -> bool:
        """Whether each interaction has a list of its own."""
        return isinstance(self.dataset, SequentialDataset)

    @property
    def lists(self) -> list[list[str]]:
        """Items of each list, best first."""
        return [ranking.items for ranking in self.rankings]

    @property
    def users(self) -> list[str]:
        """User of each list."""
        return [ranking.user for ranking in self.rankings]


def evaluated_part(
    part: str, split: Split, rankings: list[UserRanking], path: Path, hides_known: bool
) -> Evaluated:
    """Return a part with the lists of its users.

    Args:
        part: "valid" or "test".
        split: dataset and its parts.
        rankings: lists that were read.
        path: file of the lists, for messages.
        hides_known: whether the run leaves a user's known items out of the ranking.

    Raises:
        ValueError: a user of the part has no list, or several; or a list ranks an item twice, an
            item that the dataset lacks, or one that is hidden from the user.
    """
    dataset = split.valid if part == "valid" else split.test
    history = [split.train] if part == "valid" else [split.train, split.valid]
    positives = _positives(path, rankings, dataset)
    evaluated = Evaluated(part, dataset, history, rankings, positives)
    catalogue = set(all_tokens(split.dataset, split.dataset.iid_field)[1:])
    for number, ranking in enumerate(rankings, start=1):
        items = set(ranking.items)
        place = f"{path}, line {number} (user {ranking.user!r})"
        if len(items) != len(ranking.items):
            raise ValueError(f"{place} ranks an item twice.")
        if not items <= catalogue:
            unknown = min(items - catalogue)
            raise ValueError(f"{place} ranks item {unknown!r}, which the dataset lacks.")
    if hides_known:
        _check_hidden(path, evaluated)
    return evaluated


def _positives(path: Path, rankings: list[UserRanking], dataset: Dataset) -> list[set[str]]:
    """Return the items that the part holds for each list, in the order of the lists.

    Raises:
        ValueError: users of the part have no list, or several.
    """
    users, items = part_pairs(dataset)
    listed = [ranking.user for ranking in rankings]
    if isinstance(dataset, SequentialDataset):  # a list for each interaction, in its order
        expected, positives = users, [{item} for item in items]
    else:
        items_of = _sets(users, items)
        positives = [items_of.get(user, set()) for user in listed]
        expected, listed = sorted(items_of), sorted(listed)
    if listed != expected:
        unknown = sorted(set(listed) - set(expected))
        foreign = f" User {unknown[0]!r} is not among them." if unknown else ""
        raise ValueError(
            f"{path} ranks {len(rankings)} users, and the data has {len(expected)} to evaluate; "
            f"each must be there once.{foreign}"
        )
    return positives


def _check_hidden(path: Path, evaluated: Evaluated) -> None:
    known = known_items(evaluated.history)
    pairs = zip(evaluated.rankings, evaluated.positives, strict=True)
    for number, (ranking, positives) in enumerate(pairs, start=1):
        hidden = (set(ranking.items) & known.get(ranking.user, set())) - positives
        if hidden:
            raise ValueError(
                f"{path}, line {number} (user {ranking.user!r}) ranks item {min(hidden)!r}, which "
                f"the user has in an earlier part: mask_history hides it."
            )


def known_items(history: Sequence[Dataset]) -> dict[str, set[str]]:
    """Return the items that each user has in some parts, by token."""
    known: dict[str, set[str]] = {}
    for dataset in history:
        user, item = interaction_pairs(dataset)
        users, items = (
            all_tokens(dataset, field)[ids]
            for field, ids in ((dataset.uid_field, user), (dataset.iid_field, item))
        )
        for name, found in _sets(users.tolist(), items.tolist()).items():
            known.setdefault(name, set()).update(found)
    return known


def part_pairs(dataset: Dataset) -> tuple[list[str], list[str]]:
    """Return the users and items of a part's rows, by token, (n,) each."""
    users, items = (
        all_tokens(dataset, field)[dataset.inter_feat[field].numpy()].tolist()
        for field in (dataset.uid_field, dataset.iid_field)
    )
    return users, items


def popularity(train: Dataset) -> dict[str, int]:
    """Return how often training has each item, in the order of item ids."""
    counts = Counter(interaction_pairs(train)[1].tolist())
    tokens = all_tokens(train, train.iid_field)
    return {tokens[item]: counts[item] for item in sorted(counts)}


def all_tokens(dataset: Dataset, field: str) -> np.ndarray:
    """Return the tokens of all users or items as text, in the order of ids; padding first."""
    return np.array([str(token) for token in dataset.field2id_token[field]], dtype=object)


def _sets(users: Sequence[str], items: Sequence[str]) -> dict[str, set[str]]:
    items_of: dict[str, set[str]] = {}
    for user, item in zip(users, items, strict=True):
        items_of.setdefault(user, set()).add(item)
    return items_of
