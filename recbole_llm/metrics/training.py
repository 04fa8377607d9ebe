"""What metrics read of the training interactions: users by item, items by user, popularity."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix


class Training(NamedTuple):
    """Counts of the training part; a pair of user and item counts once.

    Attributes:
        item_users: (I,) int64 number of users who have each item.
        user_items: (U,) int64 number of items in each user's profile.
        profile_popularity: (U,) float64 mean of ``item_users`` over a user's items; 0 without any.
    """

    item_users: NDArray[np.int64]
    user_items: NDArray[np.int64]
    profile_popularity: NDArray[np.float64]

    @property
    def n_users(self) -> int:
        """Number of users with a training interaction."""
        return int(np.count_nonzero(self.user_items))


def training_of(interactions: coo_matrix) -> Training:
    """Count the interactions of a training part, in time and memory linear in them.

    Args:
        interactions: (U, I) with an entry for each interaction; pairs may repeat.
    """
    matrix = interactions.tocsr()  # pairs that repeat become one entry
    item_users = np.bincount(matrix.indices, minlength=matrix.shape[1])
    user_items = np.diff(matrix.indptr).astype(np.int64)
    matrix.data = np.ones(len(matrix.indices))
    total = matrix @ item_users.astype(np.float64)
    return Training(item_users, user_items, total / np.maximum(user_items, 1))


def active_users(
    users: NDArray[np.int64], user_items: NDArray[np.int64], share: float
) -> NDArray[np.bool_]:
    """Return which lists are of the most active users.

    Args:
        users: (n,) user of each list.
        user_items: (U,) items in each user's training profile.
        share: share of the distinct users that are active, rounded to whole users, one at least.
            Among users of equal profiles, the one of the lower id goes first.

    Returns:
        (n,) bool.
    """
    is_listed = np.zeros(len(user_items), dtype=bool)
    is_listed[users] = True
    distinct = np.flatnonzero(is_listed)
    n_active = max(1, round(share * len(distinct)))
    order = np.argsort(-user_items[distinct], kind="stable")
    is_active = np.zeros(len(user_items), dtype=bool)
    is_active[distinct[order[:n_active]]] = True
    return is_active[users]
