"""The loader of full ranking in large batches, which RecBole's own trainers take too."""

from collections.abc import Sequence

import numpy as np
import torch
from recbole.config import Config
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataloader.general_dataloader import FullSortEvalDataLoader
from recbole.data.dataset.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.utils import ModelType
from torch import Tensor

from recbole_llm.data.history import UserHistory


class FullRankLoader(FullSortEvalDataLoader):
    """Users (or samples, for RecBole's sequential models) to rank every item for.

    It yields what RecBole's FullSortEvalDataLoader does, from compressed rows and not from Python
    sets, ``eval_users`` at a time. A user's history is every item of ``history`` but the positives,
    as in RecBole; it is hidden from the ranking when ``mask_history`` is true.

    Args:
        config: reads ``eval_users``, ``mask_history``, ``MAX_ITEM_LIST_LENGTH``.
        dataset: the part to evaluate.
        history: the parts that the user is known by: training, and validation when testing.
        with_sequence: add the user's recent items (``item_id_list``, cut to the longest of the
            batch, and ``item_length``), which models that read a history need. Users then come in
            the order of their history's length.

    Attributes:
        candidates: (I,) bool, the items that are ranked; None: all.
    """

    candidates: Tensor | None = None

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        history: Sequence[Dataset],
        with_sequence: bool = False,
    ) -> None:
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        self.n_items = dataset.item_num
        self.parts = list(history)
        self.is_sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
        self.history = UserHistory.of(history) if with_sequence else None
        self.width = config["MAX_ITEM_LIST_LENGTH"]
        self.list_field = self.iid_field + config["LIST_SUFFIX"]
        self.length_field = config["ITEM_LIST_LENGTH_FIELD"]
        self.mask_history = config["mask_history"]
        user = dataset.inter_feat[self.uid_field].numpy()
        item = dataset.inter_feat[self.iid_field].numpy()
        if self.is_sequential:
            self.row_user = user
            row = np.arange(len(user))
        else:
            self.row_user, row = np.unique(user, return_inverse=True)
            if self.history is not None:  # like lengths together, for little padding
                length = self.history.lengths().clamp(max=self.width).numpy()[self.row_user]
                order = np.argsort(length, kind="stable")
                self.row_user, row = self.row_user[order], np.argsort(order)[row]
            self.user_df = dataset.join(Interaction({self.uid_field: torch.tensor(self.row_user)}))
        self.positives = _Rows(row, item, len(self.row_user), self.n_items)
        parts = [interaction_pairs(part) for part in history]
        self.known = _Rows(
            np.concatenate([pair[0] for pair in parts]),
            np.concatenate([pair[1] for pair in parts]),
            dataset.user_num,
            self.n_items,
        )
        self.sample_size = len(self.row_user)
        AbstractDataLoader.__init__(self, config, dataset, None, shuffle=False)

    def restricted(self, rows: np.ndarray, candidates: Tensor | None = None) -> "FullRankLoader":
        """Return a loader of some interactions of the part, known by the same history.

        Args:
            rows: (n,) int64 positions in the part, at least one.
            candidates: (I,) bool, the items to rank, those of ``rows`` among them; None: all.
        """
        part = self._dataset.copy(self._dataset.inter_feat[torch.from_numpy(rows)])
        loader = FullRankLoader(self.config, part, self.parts, self.history is not None)
        loader.candidates = candidates
        return loader

    def _init_batch_size_and_step(self) -> None:
        self.step = self.config["eval_users"]
        self.set_batch_size(self.step)

    def collate_fn(
        self, index: Sequence[int]
    ) -> tuple[Interaction, tuple[Tensor, Tensor] | None, Tensor, Tensor]:
        """Return the batch, the (row, item) pairs to hide, and the positives' rows and items."""
        rows = np.asarray(index)
        pos_row, pos_item = self.positives.take(rows)
        if self.is_sequential:
            batch = self.transform(self._dataset, self._dataset[rows])
        else:
            batch = self.user_df[rows]
        users = self.row_user[rows]
        if self.history is not None:
            items, length = self.history.last(torch.from_numpy(users), self.width)
            items = items[:, : max(int(length.max()), 1)]
            batch.update(Interaction({self.list_field: items, self.length_field: length}))
        hidden = None
        if self.mask_history:
            known_row, known_item = self.known.take(users)
            keep = ~np.isin(
                known_row * self.n_items + known_item, pos_row * self.n_items + pos_item
            )
            hidden = torch.from_numpy(known_row[keep]), torch.from_numpy(known_item[keep])
        return batch, hidden, torch.from_numpy(pos_row), torch.from_numpy(pos_item)


class _Rows:
    """Distinct items of each row, compressed."""

    def __init__(self, row: np.ndarray, item: np.ndarray, n_rows: int, n_items: int) -> None:
        keys = np.unique(row.astype(np.int64) * n_items + item)
        self.items = keys % n_items
        self.indptr = np.concatenate(
            [[0], np.cumsum(np.bincount(keys // n_items, minlength=n_rows))]
        )

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions in ``rows`` and the items of those rows, both (nnz,) int64."""
        start, length = self.indptr[rows], np.diff(self.indptr)[rows]
        position = np.repeat(np.arange(len(rows)), length)
        offset = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        return position, self.items[np.repeat(start, length) + offset]


def interaction_pairs(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the users and items of a part's interactions, (n,) each."""
    # A sequential dataset's rows leave out each user's first item; its matrix has it.
    matrix = dataset.inter_matrix(form="coo")
    return matrix.row, matrix.col
