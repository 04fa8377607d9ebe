"""The scores of a finished run: every item for a batch of its users."""

from functools import cached_property

import torch
from recbole.data.interaction import Interaction
from recbole.utils import ModelType
from torch import Tensor

from recbole_llm.data.history import UserHistory
from recbole_llm.model.base import hooks_of
from recbole_llm.runs.reload import ReloadedRun
from recbole_llm.trainer.trainer import build_trainer


class Scorer:
    """Scores of every item, as the run's own evaluation computes them on the test part.

    A model that reads recent items gets those of the training and the validation part.

    Attributes:
        reads_history: whether a batch carries each user's recent items.

    Args:
        run: finished run.
    """

    def __init__(self, run: ReloadedRun) -> None:
        self.run = run
        self.dataset = run.split.dataset
        self.device = run.config["device"]
        self.width = run.config["MAX_ITEM_LIST_LENGTH"]
        self.is_sequential = run.config["MODEL_TYPE"] == ModelType.SEQUENTIAL
        self.reads_history = self.is_sequential or hooks_of(run.model).needs_history
        self._trainer = build_trainer(run.config, run.model)
        self._trainer.tot_item_num = self.dataset.item_num
        self._trainer.item_tensor = self.dataset.get_item_feature().to(self.device)
        run.model.eval()

    def users(self, users: Tensor) -> Tensor:
        """Return the scores (B, I) of users' items; items that they know are scored too.

        Args:
            users: (B,) int64 internal user ids.

        Raises:
            ValueError: a user of a sequential model has fewer than two interactions.
        """
        return self.batch(self.interaction(users))

    def interaction(self, users: Tensor) -> Interaction:
        """Return a batch of users with all that the model reads of them."""
        batch = self.dataset.join(Interaction({self.dataset.uid_field: users}))
        if self.reads_history:
            batch.update(self.sequences(*self._recent(users)))
        return batch

    def sequences(self, items: Tensor, lengths: Tensor) -> Interaction:
        """Return recent items (B, S) and their number (B,) under the names of their fields."""
        list_field = self.dataset.iid_field + self.run.config["LIST_SUFFIX"]
        return Interaction({list_field: items, self.run.config["ITEM_LIST_LENGTH_FIELD"]: lengths})

    @torch.no_grad()
    def batch(self, interaction: Interaction) -> Tensor:
        """Return the scores (B, I) of a batch, float, on the run's device.

        Raises:
            ValueError: the model reads a field that the batch lacks.
        """
        try:
            nothing = torch.empty(0, dtype=torch.int64)
            return self._trainer._full_sort_batch_eval((interaction, None, nothing, nothing))[1]
        except KeyError as error:
            raise ValueError(
                f"model {self.run.record.model} reads the field {error} of each interaction, so "
                f"it cannot rank a catalogue for a user."
            ) from error

    def _recent(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """Return the users' recent items (B, S), zeros behind them, and their number (B,)."""
        items, lengths = self._history.last(users, self.width)
        if self.is_sequential:  # RecBole's models fix the width, and divide by the length
            lengths = lengths.clamp(min=1)
        else:
            items = items[:, : max(int(lengths.max()), 1)]
        return items, lengths

    @cached_property
    def _history(self) -> UserHistory:
        split = self.run.split
        if not self.is_sequential:
            return UserHistory.of([split.train, split.valid])
        return _history_of_samples(split.train.inter_feat, split.valid.inter_feat, self)


def _history_of_samples(train: Interaction, valid: Interaction, scorer: Scorer) -> UserHistory:
    """Return what a sequential model's samples hold of each user: the last sample and its item."""
    dataset, config = scorer.dataset, scorer.run.config
    list_field = dataset.iid_field + config["LIST_SUFFIX"]
    length_field = config["ITEM_LIST_LENGTH_FIELD"]
    user, target, items, length = (
        torch.cat([train[field], valid[field]])
        for field in (dataset.uid_field, dataset.iid_field, list_field, length_field)
    )
    last = torch.full((dataset.user_num,), -1).scatter_reduce(
        0, user, torch.arange(len(user)), "amax"
    )  # (U,) each user's last row
    known = (last >= 0).nonzero().flatten()
    rows = last[known]
    counts = torch.zeros(dataset.user_num, dtype=torch.int64)
    counts[known] = length[rows] + 1
    column = torch.arange(items.size(1) + 1)
    sequence = torch.cat([items[rows], items.new_zeros(len(rows), 1)], dim=1)
    sequence[torch.arange(len(rows)), length[rows]] = target[rows]
    flat = sequence[column < counts[known].unsqueeze(1)]
    return UserHistory(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), flat)
