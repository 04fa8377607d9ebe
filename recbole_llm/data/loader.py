"""Loaders: full ranking in large batches, causal windows, and prefix samples.

All are RecBole data loaders, so RecBole's own trainers take them too.
"""

import math
from collections.abc import Iterator, Sequence

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

#: Interaction field of WindowLoader: the item that follows each position of the window.
TARGET_SEQ = "target_id_list"


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


class _SequenceLoader(AbstractDataLoader):
    """Training samples cut from users' histories, in batches of an order drawn every epoch."""

    def __init__(
        self, config: Config, dataset: Dataset, sampler: object = None, shuffle: bool = True
    ) -> None:
        self.history = UserHistory.of([dataset])
        self.width = config["MAX_ITEM_LIST_LENGTH"]
        self.list_field = dataset.iid_field + config["LIST_SUFFIX"]
        self.length_field = config["ITEM_LIST_LENGTH_FIELD"]
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        self._cut(config)
        super().__init__(config, dataset, sampler, shuffle=shuffle)

    def _cut(self, config: Config) -> None:
        """Set ``sample_size`` and the arrays that ``collate_fn`` reads."""
        raise NotImplementedError

    def _init_batch_size_and_step(self) -> None:
        self.step = self.config["train_batch_size"]
        self.set_batch_size(self.step)


class WindowLoader(_SequenceLoader):
    """Windows of a user's training sequence, with the next item at every position.

    A sequence longer than the window is cut from its end, so that each item but the first is a
    target exactly once. Fields: ``item_id_list`` and ``target_id_list`` (B, width), zeros behind
    the end; ``item_length`` (B,).
    """

    def _cut(self, config: Config) -> None:
        n_targets = (self.history.lengths() - 1).clamp(min=0)
        n_windows = (n_targets + self.width - 1) // self.width
        user = torch.repeat_interleave(torch.arange(len(n_windows)), n_windows)
        number = torch.arange(len(user)) - torch.repeat_interleave(
            n_windows.cumsum(0) - n_windows, n_windows
        )
        stop = n_targets[user] - number * self.width  # targets before this window's end
        self.length = stop.clamp(max=self.width)
        self.start = self.history.indptr[user] + stop - self.length
        self.sample_size = len(user)

    def collate_fn(self, index: Sequence[int]) -> Interaction:
        """Return one batch of windows, cut to the longest of them."""
        rows = torch.tensor(index)
        start, length = self.start[rows], self.length[rows]
        width = int(length.max())
        return Interaction(
            {
                self.list_field: self.history.spans(start, length, width),
                TARGET_SEQ: self.history.spans(start + 1, length, width),
                self.length_field: length,
            }
        )


class PrefixLoader(_SequenceLoader):
    """One sample for each prefix of a user's training sequence: its recent items and the next one.

    ``prefixes_per_user`` > 0 draws that many of a user's prefixes anew each epoch; 0 takes all.
    Batches hold prefixes of similar length (little padding); which ones, and the order of the
    batches, is drawn each epoch. Fields: ``item_id_list`` (B, longest), ``item_length``, and the
    next item as ``item_id`` (B,).
    """

    #: Batches that are sorted by length together: more sorts better, fewer mixes better.
    BUCKET = 32

    def _cut(self, config: Config) -> None:
        n_targets = (self.history.lengths() - 1).clamp(min=0)
        self.user = torch.repeat_interleave(torch.arange(len(n_targets)), n_targets)
        first = torch.repeat_interleave(n_targets.cumsum(0) - n_targets, n_targets)
        self.prefix = torch.arange(len(self.user)) - first + 1  # items before the target
        self.per_user = config["prefixes_per_user"]
        kept = n_targets.clamp(max=self.per_user) if self.per_user else n_targets
        self.sample_size = int(kept.sum())

    def __len__(self) -> int:
        return math.ceil(self.sample_size / self.step)

    def __iter__(self) -> Iterator[Interaction]:
        draw = torch.randperm(len(self.user), generator=self.generator)
        if self.per_user:
            by_user = draw[torch.argsort(self.user[draw], stable=True)]
            user = self.user[by_user]
            starts = torch.searchsorted(user, user)  # where each user's run begins
            draw = by_user[torch.arange(len(user)) - starts < self.per_user]
            draw = draw[torch.randperm(len(draw), generator=self.generator)]
        length = self.prefix[draw].clamp(max=self.width)
        batches: list[Tensor] = []
        for begin in range(0, len(draw), self.BUCKET * self.step):
            bucket = slice(begin, begin + self.BUCKET * self.step)
            batches += draw[bucket][torch.argsort(length[bucket], stable=True)].split(self.step)
        for index in torch.randperm(len(batches), generator=self.generator).tolist():
            yield self.collate_fn(batches[index])

    def collate_fn(self, index: Tensor) -> Interaction:
        """Return one batch of prefixes, cut to the longest of them."""
        user, prefix = self.user[index], self.prefix[index]
        length = prefix.clamp(max=self.width)
        target = self.history.indptr[user] + prefix
        width = int(length.max())
        return Interaction(
            {
                self.uid_field: user,
                self.list_field: self.history.spans(target - length, length, width),
                self.length_field: length,
                self.iid_field: self.history.items[target],
            }
        )
