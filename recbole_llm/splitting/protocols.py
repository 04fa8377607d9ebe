"""The protocols of ``recbole_llm split``, on plain arrays; ``PROTOCOLS`` at the end lists them.

``loo`` and ``random811`` give RecBole's rows in RecBole's order, without its loops over users.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_llm.registry import suggest

Index = NDArray[np.int64]

_RATIO = 0.1 / sum([0.8, 0.1, 0.1])  # RecBole's arithmetic, to the last bit


class SplitRows(NamedTuple):
    """Positions of the interactions of each part, in the order in which a run gets them.

    Attributes:
        train: (n,) int64.
        valid: (n,) int64.
        test: (n,) int64.
        dropped: (n,) int64, held-out interactions of users without a training one.
        facts: further facts for the manifest: cut times, the number of cold users or items.
    """

    train: Index
    valid: Index
    test: Index
    dropped: Index
    facts: dict[str, Any]

    @property
    def parts(self) -> tuple[Index, Index, Index]:
        """Training, validation and test."""
        return self.train, self.valid, self.test


class Interactions(NamedTuple):
    """What a protocol may look at.

    Attributes:
        user: (n,) int64 user ids.
        item: (n,) int64 item ids.
        time: (n,) float64; empty where the data has no timestamps.
        seed: seed of protocols that draw.
        cold_share: share of users or items that the cold-start protocols hold out.
    """

    user: Index
    item: Index
    time: NDArray[np.float64]
    seed: int
    cold_share: float


class Protocol(NamedTuple):
    """How interactions are divided into training, validation and test.

    Attributes:
        divide: function of the interactions that returns the positions of the three parts, each in
            the order in which a run gets its rows, and facts for the manifest.
        help: what is held out, for the command's help.
        needs_time: whether it reads timestamps.
        is_seeded: whether it draws by a seed.
        keeps_unseen_users: whether held-out interactions of users without a training interaction
            stay in the split by default.
    """

    divide: Callable[[Interactions], tuple[Sequence[Index], dict[str, Any]]]
    help: str
    needs_time: bool = False
    is_seeded: bool = False
    keeps_unseen_users: bool = False


def split_rows(
    protocol: str,
    user: Index,
    item: Index,
    time: NDArray[np.float64] | None,
    seed: int,
    cold_share: float = 0.2,
    unseen_users: str | None = None,
) -> SplitRows:
    """Split interactions; O(n log n) time.

    Args:
        protocol: protocol name, a key of ``PROTOCOLS``.
        user: (n,) user ids.
        item: (n,) item ids.
        time: (n,) times; None where the data has none.
        seed: seed of protocols that draw.
        cold_share: share of users (``cold_users``) or items (``cold_items``) held out, half for
            validation and half for test, as in CLCRec (Wei et al., MM 2021): the epoch is chosen on
            other cold users or items than are tested.
        unseen_users: ``drop`` or ``keep`` held-out interactions of users without a training one;
            the protocol decides where it is None.

    Raises:
        ValueError: an unknown protocol or option, no times, or a part is left empty.
    """
    chosen = find_protocol(protocol)
    if chosen.needs_time and time is None:
        raise ValueError(f"protocol {protocol} needs timestamps, and the data has none loaded.")
    unseen_users = unseen_users or ("keep" if chosen.keeps_unseen_users else "drop")
    if unseen_users not in ("keep", "drop"):
        raise ValueError(f"unseen_users must be keep or drop, got {unseen_users!r}.")
    if chosen.keeps_unseen_users and unseen_users == "drop":
        raise ValueError(f"unseen_users=drop would leave nothing of the protocol {protocol}.")
    if not 0 < cold_share < 1:
        raise ValueError(f"cold_share must lie between 0 and 1, got {cold_share!r}.")
    times = np.empty(0) if time is None else time
    rows, facts = chosen.divide(Interactions(user, item, times, seed, cold_share))
    for part, index in zip(("training", "validation", "test"), rows, strict=True):
        if not len(index):
            raise ValueError(
                f"protocol {protocol} leaves the {part} part of {len(user)} interactions empty"
                + (": do most of them have the same time?" if "cut_times" in facts else ".")
            )
    train, valid, test = rows
    dropped = np.empty(0, dtype=np.int64)
    if unseen_users == "drop":
        is_seen = np.zeros(int(user.max()) + 1, dtype=bool)
        is_seen[user[train]] = True
        held_out = np.concatenate([valid, test])
        dropped = np.sort(held_out[~is_seen[user[held_out]]])
        valid, test = (part[is_seen[user[part]]] for part in (valid, test))
    return SplitRows(train, valid, test, dropped, {**facts, "unseen_users": unseen_users})


def find_protocol(name: str) -> Protocol:
    """Return a protocol by its name.

    Raises:
        ValueError: there is no such protocol; suggests the nearest name.
    """
    if name not in PROTOCOLS:
        raise ValueError(
            f"unknown protocol {name!r}; expected one of {', '.join(PROTOCOLS)}."
            f"{suggest(str(name), list(PROTOCOLS))}"
        )
    return PROTOCOLS[name]


def grouped(order: Index, user: Index) -> tuple[Index, Index, Index]:
    """Bring each user's rows together, users by their first row in ``order``, as RecBole does.

    Returns:
        The order, each row's position within its user, and its user's number of rows; (n,) each.
    """
    import pandas as pd  # here, so that the list of protocols is quick to print

    codes = pd.factorize(user[order])[0]
    by_user = np.argsort(codes, kind="stable")
    size = np.bincount(codes)
    codes = codes[by_user]
    position = np.arange(len(order)) - (np.cumsum(size) - size)[codes]
    return order[by_user], position, size[codes]


def _leave_one_out(data: Interactions) -> tuple[list[Index], dict[str, Any]]:
    order = np.argsort(data.time, kind="stable")
    order, position, size = grouped(order, data.user)
    left = size - position
    held_out = (left <= 2) & (position > 0)
    return [order[~held_out], order[held_out & (left == 2)], order[held_out & (left == 1)]], {}


def _random(data: Interactions) -> tuple[list[Index], dict[str, Any]]:
    import torch  # here for the same reason as in `grouped`

    generator = torch.Generator().manual_seed(data.seed)  # RecBole's shuffle
    order = torch.randperm(len(data.user), generator=generator).numpy()
    return _by_ratio(order, data.user), {}


def _temporal(data: Interactions) -> tuple[list[Index], dict[str, Any]]:
    return _by_ratio(np.argsort(data.time, kind="stable"), data.user), {}


def _by_ratio(order: Index, user: Index) -> list[Index]:
    """Cut each user's rows 8:1:1 in ``order``; as in RecBole, one of two rows is a test row."""
    order, position, size = grouped(order, user)
    train, valid, _ = ratio_sizes(size)
    return [
        order[position < train],
        order[(position >= train) & (position < train + valid)],
        order[position >= train + valid],
    ]


def ratio_sizes(size: Index) -> tuple[Index, Index, Index]:
    """Return how many of ``size`` rows of a user train, validate and test, 8:1:1 as RecBole."""
    share = _RATIO * size
    valid, test = share.astype(np.int64), share.astype(np.int64)
    train = size - valid - test
    for part in (test, valid):
        takes = (share < 1) & (train > 1)
        part += takes
        train -= takes
    return train, valid, test


def _global_time(data: Interactions) -> tuple[list[Index], dict[str, Any]]:
    """Cut 80/10/10 at two times; all interactions at a cut time go to the later part."""
    order = np.argsort(data.time, kind="stable")
    ordered = data.time[order]
    cuts = ordered[[len(order) * 8 // 10, len(order) * 9 // 10]]
    at = np.searchsorted(ordered, cuts, side="left")
    return np.split(order, at), {"cut_times": cuts.tolist()}


def _cold_users(data: Interactions) -> tuple[list[Index], dict[str, Any]]:
    return _by_cold_ids(data.user, data)


def _cold_items(data: Interactions) -> tuple[list[Index], dict[str, Any]]:
    return _by_cold_ids(data.item, data)


def _by_cold_ids(ids: Index, data: Interactions) -> tuple[list[Index], dict[str, Any]]:
    distinct = np.unique(ids)
    n_cold = max(round(data.cold_share * len(distinct)), 2)
    drawn = np.random.default_rng(data.seed).permutation(distinct)[:n_cold]
    part_of = np.zeros(int(distinct[-1]) + 1, dtype=np.int8)
    part_of[drawn[: n_cold // 2]] = 1
    part_of[drawn[n_cold // 2 :]] = 2
    part = part_of[ids]
    counts = {"valid": n_cold // 2, "test": n_cold - n_cold // 2}
    return [np.flatnonzero(part == number) for number in range(3)], {"cold": counts}


PROTOCOLS: dict[str, Protocol] = {
    "loo": Protocol(
        _leave_one_out,
        "each user's last interaction tests, the one before validates",
        needs_time=True,
    ),
    "random811": Protocol(
        _random,
        "8:1:1 of each user's interactions, at random; the rows of run_recbole's own",
        is_seeded=True,
    ),
    "temporal811": Protocol(
        _temporal, "8:1:1 of each user's interactions, in time order", needs_time=True
    ),
    "global_time": Protocol(
        _global_time,
        "one cut in time for all, 80/10/10 of the interactions",
        needs_time=True,
    ),
    "cold_users": Protocol(
        _cold_users,
        "a share of the users is held out whole: half validates, half tests",
        is_seeded=True,
        keeps_unseen_users=True,
    ),
    "cold_items": Protocol(
        _cold_items,
        "a share of the items is held out whole: half validates, half tests",
        is_seeded=True,
    ),
}
