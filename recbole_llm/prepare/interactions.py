"""Interactions as columns: identifiers become integers while a source is read, then filters."""

import math
from array import array
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

DUPLICATES = ("first", "last", "all")
_FORBIDDEN = frozenset("\t\n\r\0")


class Interactions(NamedTuple):
    """Columns of n interactions; codes index the identifiers and grow with first appearance.

    Attributes:
        user: (n,) int32. item: (n,) int32.
        rating: (n,) float64; zeros where the source has none, NaN where a cell is empty.
        time: (n,) float64, Unix seconds; NaN where a cell is empty.
        part: (n,) int8; 0, 1, 2 for train, valid, test where the source is split.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    rating: NDArray[np.float64]
    time: NDArray[np.float64]
    part: NDArray[np.int8]

    def take(self, rows: NDArray[np.generic]) -> "Interactions":
        """Return the rows of a boolean mask or an index array."""
        return Interactions(*(column[rows] for column in self))


class InteractionLog:
    """Collects interactions one by one: 25 bytes for each, and each identifier once."""

    def __init__(self) -> None:
        self._users: dict[str, int] = {}
        self._items: dict[str, int] = {}
        self._columns: list[Any] = [array(code) for code in "iiddb"]
        self._append = [column.append for column in self._columns]

    def add(
        self,
        user: str,
        item: str,
        rating: float | None = 0.0,
        time: float | None = 0.0,
        part: int = 0,
    ) -> None:
        """Add one interaction; a number that is None is missing.

        Raises:
            ValueError: an identifier is empty or cannot stand in an atomic file, or a number is
                not finite.
            TypeError: an identifier is no text, or a number is of another type.
        """
        if not all(number is None or math.isfinite(number) for number in (rating, time)):
            raise ValueError(f"rating {rating!r} or timestamp {time!r} is not finite")
        user_code = self._users.get(user)
        if user_code is None:
            user_code = self._users[_checked(user)] = len(self._users)
        item_code = self._items.get(item)
        if item_code is None:
            item_code = self._items[_checked(item)] = len(self._items)
        add_user, add_item, add_rating, add_time, add_part = self._append
        add_user(user_code)
        add_item(item_code)
        add_rating(math.nan if rating is None else rating)
        add_time(math.nan if time is None else time)
        add_part(part)

    def finish(self) -> tuple[Interactions, list[str], list[str]]:
        """Return the columns, the users and the items by code, and forget them."""
        columns = Interactions(*(np.asarray(column) for column in self._columns))
        users, items = list(self._users), list(self._items)
        self._users, self._items, self._append = {}, {}, []
        return columns, users, items


def _checked(token: str) -> str:
    if not isinstance(token, str):
        raise TypeError(f"the identifier {token!r} is no text")
    token.encode()  # raises a ValueError for bytes that are not UTF-8
    if not token or not _FORBIDDEN.isdisjoint(token):
        raise ValueError(
            f"the identifier {token!r} cannot stand in an atomic file: it is empty, or holds a "
            f"tab, a line end or a zero byte"
        )
    return token


def duplicate_mask(data: Interactions, policy: str) -> NDArray[np.bool_]:
    """Mark the interactions that repeat a (user, item) pair and that the policy drops.

    Args:
        data: n interactions.
        policy: ``first`` or ``last`` to keep a pair's earliest or latest by time (of equal times
            the first or last row); ``all`` to keep every one.

    Returns:
        (n,) bool, true for those to drop.
    """
    drop = np.zeros(len(data.user), dtype=bool)
    if policy == "all" or not len(drop):
        return drop
    pair = data.user * (np.int64(data.item.max()) + 1) + data.item
    ordered = np.sort(pair)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    if not repeated.size:
        return drop
    nearest = np.minimum(np.searchsorted(repeated, pair), repeated.size - 1)
    rows = np.flatnonzero(repeated[nearest] == pair)
    rows = rows[np.lexsort((data.time[rows], pair[rows]))]
    same = pair[rows][1:] == pair[rows][:-1]
    drop[rows[1:][same] if policy == "first" else rows[:-1][same]] = True
    return drop


def k_core_mask(
    user: NDArray[np.int32], item: NDArray[np.int32], k: int
) -> tuple[NDArray[np.bool_], int]:
    """Find the k-core: users and items with fewer than k interactions go, until none is left.

    Time O(n) a round.

    Args:
        user: user codes, (n,).
        item: item codes, (n,).
        k: least number of interactions; 0 and 1 keep everything.

    Returns:
        keep: (n,) bool.
        n_rounds: number of rounds that dropped something.
    """
    keep = np.ones(len(user), dtype=bool)
    rows, n_rounds = np.arange(len(user)), 0
    while k > 1 and len(rows):
        users, items = user[rows], item[rows]
        enough = (np.bincount(users) >= k)[users] & (np.bincount(items) >= k)[items]
        if enough.all():
            break
        keep[rows[~enough]] = False
        rows, n_rounds = rows[enough], n_rounds + 1
    return keep, n_rounds


def time_order(data: Interactions) -> NDArray[np.int64]:
    """Return rows by user, then time; equal times keep the order of the source."""
    return np.lexsort((data.time, data.user))
