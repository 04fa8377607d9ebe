"""The users who have most training items in common with each user, without a U x U matrix."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_llm.graph.sparse import Array

# Pairs of users compared at a time: 2^22 of them take about 100 MiB.
_PAIRS = 2**22
# Users compared at a time at most: their numbers fit a sort key of 63 bits next to the others.
_USERS = 2**16


class UserGraph(NamedTuple):
    """A graph of users, sorted by source, the user with most common items first.

    Attributes:
        edge_index: (2, E) int64, source user above neighbour.
        n_common: (E,) float32 >= 1, number of items that the two have in common.
    """

    edge_index: Tensor
    n_common: Tensor


def user_user_graph(
    user: Array, item: Array, n_users: int, n_items: int, k: int, place: Array | None = None
) -> UserGraph:
    """Return the ``k`` other users with the most items in common with each user.

    Q. Wang et al., "DualGNN: Dual Graph Neural Network for Multimedia Recommendation", TMM 2021,
    section "User Co-occurrence Graph". Time follows the number of pairs of interactions with one
    item, which no count can avoid; memory is linear in the interactions, the users and the result.

    Args:
        user: (E,) user ids; a repeated interaction counts once.
        item: (E,) item ids.
        n_users: U, padding id 0 included.
        n_items: I, padding id 0 included.
        k: number of neighbours, >= 1. A user with fewer users of common items has fewer.
        place: (U,) permutation of 0..U-1, such as ``tie_order`` of the users' tokens: of users with
            equally many common items the one of lower place comes first. None: of lower id.

    Raises:
        ValueError: ``k`` is not positive.
    """
    if k < 1:
        raise ValueError(f"user_k, the neighbours of a user, must be at least 1, got {k}.")
    order = np.arange(n_users) if place is None else np.asarray(place)
    user_at = np.argsort(order)  # (U,) the user of each place
    users, items = np.asarray(user), np.asarray(item)
    ones = np.ones(len(users), dtype=np.int32)
    taken = sp.csr_matrix((ones, (users, items)), shape=(n_users, n_items))
    taken.data[:] = 1  # repeated interactions were summed
    top = int(np.diff(taken.indptr).max(initial=0)) + 1  # above every count
    edges, counts = [np.zeros((2, 0), dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for start, row, col, count in _pairs_with_common_items(taken):
        # One number a pair sorts by row, then falling count, then place; it is decoded below.
        key = (row * top + (top - count)) * n_users + order[col]
        key.sort()
        row = key // (top * n_users)
        is_kept = np.arange(len(row)) - np.searchsorted(row, row) < k
        row, rest = row[is_kept], key[is_kept] % (top * n_users)
        edges.append(np.stack([row + start, user_at[rest % n_users]]))
        counts.append(top - rest // n_users)
    return UserGraph(
        torch.from_numpy(np.concatenate(edges, axis=1)),
        torch.from_numpy(np.concatenate(counts).astype(np.float32)),
    )


def _pairs_with_common_items(
    taken: sp.csr_matrix,
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the pairs of different users who share items, some users at a time.

    Args:
        taken: (U, I) binary.

    Yields:
        first user of the block, users counted from it, their neighbours' ids, shared items.
    """
    takers = taken.T.tocsr()  # (I, U)
    n_takers = np.diff(takers.indptr)  # (I,)
    ends = np.concatenate([[0], np.cumsum(n_takers[taken.indices])])  # (E + 1,)
    work = ends[taken.indptr]  # (U + 1,) pairs of all users before each
    n_users, start = taken.shape[0], 0
    while start < n_users:
        stop = int(np.searchsorted(work, work[start] + _PAIRS, side="right")) - 1
        stop = min(max(stop, start + 1), start + _USERS, n_users)
        shared = (taken[start:stop] @ takers).tocoo()
        row, col = shared.row.astype(np.int64), shared.col.astype(np.int64)
        is_other = row + start != col
        yield start, row[is_other], col[is_other], shared.data[is_other].astype(np.int64)
        start = stop
