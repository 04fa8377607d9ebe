"""Loaders of training samples that are cut from users' histories: windows and prefixes.

Both are RecBole data loaders, so RecBole's own trainers take them too.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from recbole.config import Config
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataset.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm.data.history import UserHistory

#: Interaction field of WindowLoader: the item that follows each position of the window.
TARGET_SEQ = "target_id_list"


class SequenceLoader(AbstractDataLoader):
    """Training samples cut from users' histories, in batches that are drawn anew every epoch.

    A subclass defines ``_cut``, ``batches`` and ``collate_fn``. What is drawn follows from the
    loader's generator, whose state a checkpoint holds.
    """

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

    def batches(self) -> list[Tensor]:
        """Draw an epoch: the samples of each batch, (n,) int64, in the order of the batches."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Interaction]:
        for index in self.batches():
            yield self.collate_fn(index)

    def collate_fn(self, index: Tensor) -> Interaction:
        """Return one batch, cut to the longest of its samples."""
        raise NotImplementedError

    def _init_batch_size_and_step(self) -> None:
        self.step = self.config["train_batch_size"]
        self.set_batch_size(self.step)


class WindowLoader(SequenceLoader):
    """Windows of a user's training sequence, with the next item at every position.

    A sequence longer than the window is cut from its end, so that each item but the first is a
    target exactly once. Fields: ``item_id_list`` and ``target_id_list`` (B, longest), zeros behind
    the end; ``item_length`` (B,).

    ``train_batch_tokens`` makes batches of windows of similar length, as many as have so many item
    slots, padding included (at least one window); which windows share a batch, and the order of the
    batches, is drawn each epoch. Without it a batch is ``train_batch_size`` windows of any length.
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
        n_tokens = config["train_batch_tokens"]
        self.sizes = None if n_tokens is None else batch_sizes(self.length, n_tokens)

    def __len__(self) -> int:
        return math.ceil(self.sample_size / self.step) if self.sizes is None else len(self.sizes)

    def batches(self) -> list[Tensor]:
        """Draw an epoch: the windows of each batch."""
        if self.sizes is None:
            # As torch's own iteration does, which draws a seed for workers before the samples.
            torch.empty((), dtype=torch.int64).random_(generator=self.generator)
            return [torch.tensor(rows) for rows in self.batch_sampler]
        draw = torch.randperm(self.sample_size, generator=self.generator)
        draw = draw[torch.argsort(self.length[draw], descending=True, stable=True)]
        order = torch.randperm(len(self.sizes), generator=self.generator)
        groups = draw.split(self.sizes)
        return [groups[number] for number in order.tolist()]

    def collate_fn(self, index: Tensor | Sequence[int]) -> Interaction:
        """Return one batch of windows, cut to the longest of them."""
        rows = torch.as_tensor(index)
        start, length = self.start[rows], self.length[rows]
        width = int(length.max())
        return Interaction(
            {
                self.list_field: self.history.spans(start, length, width),
                TARGET_SEQ: self.history.spans(start + 1, length, width),
                self.length_field: length,
            }
        )


def batch_sizes(length: Tensor, n_tokens: int) -> list[int]:
    """Return how many windows each batch takes, of windows sorted from the longest on.

    Args:
        length: (n,) int64 >= 1, lengths of the windows in any order.
        n_tokens: most item slots of a batch, padding included; a longer window is a batch alone.
    """
    longest_first = length.sort(descending=True).values.tolist()
    sizes, n_left = [], len(longest_first)
    while n_left:
        longest = longest_first[len(longest_first) - n_left]
        sizes.append(min(max(1, n_tokens // longest), n_left))
        n_left -= sizes[-1]
    return sizes


class PrefixLoader(SequenceLoader):
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

    def batches(self) -> list[Tensor]:
        """Draw an epoch: the prefixes of each batch."""
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
        order = torch.randperm(len(batches), generator=self.generator)
        return [batches[number] for number in order.tolist()]

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


def sample_loader(
    config: Config, dataset: Dataset, sampler: object = None, shuffle: bool = True
) -> SequenceLoader:
    """Return the loader that ``training`` asks for: of windows, or of prefixes."""
    kind = WindowLoader if config["training"] == "windows" else PrefixLoader
    return kind(config, dataset, sampler, shuffle=shuffle)
