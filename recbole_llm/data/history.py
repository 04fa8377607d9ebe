"""Users' interactions in chronological order, as one flat array."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from recbole.data.dataset.dataset import Dataset
from torch import Tensor

import recbole_llm.compat  # noqa: F401 - RecBole is repaired before any of it is used


class UserHistory(NamedTuple):
    """Every user's items, oldest first, in compressed rows.

    Attributes:
        indptr: (U + 1,) int64; user u's items are ``items[indptr[u] : indptr[u + 1]]``.
        items: (nnz,) int64 RecBole-internal item ids.
    """

    indptr: Tensor
    items: Tensor

    @classmethod
    def of(cls, datasets: Sequence[Dataset]) -> "UserHistory":
        """Collect the interactions of some parts of a split, and of no other part.

        Order within a user is by time where the data has it (ties keep the order of ``datasets``
        and of their rows), else the order of ``datasets`` and of their rows.
        """
        first = datasets[0]
        feats = [dataset.inter_feat for dataset in datasets]
        user = torch.cat([feat[first.uid_field] for feat in feats]).numpy()
        item = torch.cat([feat[first.iid_field] for feat in feats])
        keys = [user]
        if first.time_field is not None and all(first.time_field in feat for feat in feats):
            keys.insert(0, torch.cat([feat[first.time_field] for feat in feats]).numpy())
        order = np.lexsort(keys)  # stable; the last key, the user, is the primary one
        counts = np.bincount(user, minlength=first.user_num)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        return cls(torch.from_numpy(indptr), item[torch.from_numpy(order)])

    def lengths(self) -> Tensor:
        """Return each user's number of items, (U,) int64."""
        return self.indptr.diff()

    def spans(self, start: Tensor, length: Tensor, width: int) -> Tensor:
        """Cut (B, width) int64 rows of ``length`` items from ``start``, zeros behind them."""
        if not self.items.numel():  # nobody has an item: there is nothing to index
            return self.items.new_zeros(len(start), width)
        column = torch.arange(width)
        index = (start.unsqueeze(1) + column).clamp_(max=self.items.numel() - 1)
        return self.items[index] * (column < length.unsqueeze(1))

    def last(self, users: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Return the most recent ``width`` items of each user, oldest first.

        Args:
            users: (B,) int64.
            width: columns of the result.

        Returns:
            items: (B, width) int64, zeros behind a shorter history.
            length: (B,) int64, at most ``width``.
        """
        end = self.indptr[users + 1]
        length = (end - self.indptr[users]).clamp(max=width)
        return self.spans(end - length, length, width), length
