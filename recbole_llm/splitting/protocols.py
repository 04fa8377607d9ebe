"""The protocols that ``recbole_llm split`` knows, on plain arrays.

``loo`` and ``random811`` give RecBole's rows in RecBole's order, without its loops over users.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

Index = NDArray[np.int64]

#: Protocols that need timestamps, that draw by a seed, and all.
TIMED = ("loo", "temporal811", "global_time")
SEEDED = ("random811", "cold_users", "cold_items")
PROTOCOLS = (*TIMED, *SEEDED)

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
        protocol: protocol name, one of ``PROTOCOLS``.
        user: (n,) user ids.
        item: (n,) item ids.
        time: (n,) times, needed by the protocols in ``TIMED``.
        seed: seed of the protocols in ``SEEDED``.
        cold_share: share of users (``cold_users``) or items (``cold_items``) held out, half for
            validation and half for test, as in CLCRec (Wei et al., MM 2021): the epoch is chosen on
            other cold ones than are tested.
        unseen_users: ``drop`` or ``keep`` held-out interactions of users without a training one.
            None: drop, except for ``cold_users``, where they are all there is.

    Raises:
        ValueError: an unknown protocol or option, no times, or a part is left empty.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; expected one of {', '.join(PROTOCOLS)}.")
    if protocol in TIMED and time is None:
        raise ValueError(f"protocol {protocol} needs timestamps, and the data has none loaded.")
    unseen_users = unseen_users or ("keep" if protocol == "cold_users" else "drop")
    if unseen_users not in ("keep", "drop"):
        raise ValueError(f"unseen_users must be keep or drop, got {unseen_users!r}.")
    if protocol == "cold_users" and unseen_users == "drop":
        raise ValueError("unseen_users=drop would leave nothing of the protocol cold_users.")
    if not 0 < cold_share < 1:
        raise ValueError(f"cold_share must lie between 0 and 1, got {cold_share!r}.")
    facts: dict[str, Any] = {}
    if protocol == "loo":
        assert time is not None
        rows = _leave_one_out(user, time)
    elif protocol == "random811":
        generator = torch.Generator().manual_seed(seed)  # RecBole's shuffle
        order = torch.randperm(len(user), generator=generator).numpy()
        rows = _by_ratio(order, user)
    elif protocol == "temporal811":
        assert time is not None
        rows = _by_ratio(np.argsort(time, kind="stable"), user)
    elif protocol == "global_time":
        assert time is not None
        rows, facts["cut_times"] = _by_global_time(time)
    else:
        ids = user if protocol == "cold_users" else item
        rows, facts["cold"] = _by_cold_ids(ids, cold_share, seed)
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


def grouped(order: Index, user: Index) -> tuple[Index, Index, Index]:
    """Bring each user's rows together, users by their first row in ``order``, as RecBole does.

    Returns:
        The order, each row's position within its user, and its user's number of rows; (n,) each.
    """
    codes = pd.factorize(user[order])[0]
    by_user = np.argsort(codes, kind="stable")
    size = np.bincount(codes)
    codes = codes[by_user]
    position = np.arange(len(order)) - (np.cumsum(size) - size)[codes]
    return order[by_user], position, size[codes]


def _leave_one_out(user: Index, time: NDArray[np.float64]) -> list[Index]:
    # RecBole sorts float32 times: with others, ties would fall differently.
    order = np.argsort(time.astype(np.float32), kind="stable")
    order, position, size = grouped(order, user)
    left = size - position
    held_out = (left <= 2) & (position > 0)
    return [order[~held_out], order[held_out & (left == 2)], order[held_out & (left == 1)]]


def _by_ratio(order: Index, user: Index) -> list[Index]:
    """Cut each user's rows 8:1:1 in ``order``; as in RecBole, one of two rows is a test row."""
    order, position, size = grouped(order, user)
    share = _RATIO * size
    valid, test = share.astype(np.int64), share.astype(np.int64)
    train = size - valid - test
    for part in (test, valid):
        takes = (share < 1) & (train > 1)
        part += takes
        train -= takes
    return [
        order[position < train],
        order[(position >= train) & (position < train + valid)],
        order[position >= train + valid],
    ]


def _by_global_time(time: NDArray[np.float64]) -> tuple[list[Index], list[float]]:
    """Cut 80/10/10 at two times; all interactions at a cut time go to the later part."""
    order = np.argsort(time, kind="stable")
    ordered = time[order]
    cuts = ordered[[len(time) * 8 // 10, len(time) * 9 // 10]]
    at = np.searchsorted(ordered, cuts, side="left")
    return np.split(order, at), cuts.tolist()


def _by_cold_ids(ids: Index, share: float, seed: int) -> tuple[list[Index], dict[str, int]]:
    distinct = np.unique(ids)
    n_cold = max(round(share * len(distinct)), 2)
    drawn = np.random.default_rng(seed).permutation(distinct)[:n_cold]
    part_of = np.zeros(int(distinct[-1]) + 1, dtype=np.int8)
    part_of[drawn[: n_cold // 2]] = 1
    part_of[drawn[n_cold // 2 :]] = 2
    part = part_of[ids]
    counts = {"valid": n_cold // 2, "test": n_cold - n_cold // 2}
    return [np.flatnonzero(part == number) for number in range(3)], counts
