"""Scores for new users, whom a model knows by a history of items alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from recbole.data.interaction import Interaction
from recbole.model.general_recommender import EASE, ItemKNN, SLIMElastic
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from recbole_llm.model.base import hooks_of
from recbole_llm.runs.scoring import Scorer


class HistoryScorer:
    """Scores of every item for histories, where the model needs nothing else of a user.

    These are models that read recent items (sequential and language models), linear models of
    items (EASE, ItemKNN, SLIMElastic), and those that define ``history_scores``.

    Args:
        scorer: scorer of the finished run.

    Raises:
        ValueError: the model ranks only users that it was trained on.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.scorer, self.model = scorer, scorer.run.model
        self.hooks = hooks_of(self.model)
        self.item_weights = _item_weights(self.model)
        if self.item_weights is None and not self._reads_items_alone():
            raise ValueError(
                f"model {scorer.run.record.model} ranks for the users that it was trained on, and "
                f"not for a new user's history. Models that do: SASRecCausal and others that read "
                f"recent items, EASE, ItemKNN, MLLMRec with user_profile=mean."
            )

    def scores(self, histories: Sequence[Tensor]) -> Tensor:
        """Return the scores (B, I) for histories of internal item ids, oldest first."""
        if self.item_weights is not None:
            return _linear_scores(histories, self.item_weights).to(self.scorer.device)
        scores = self.hooks.history_scores(*self._on_device(*_padded(histories)))
        return self._batch(*self._recent(histories)) if scores is None else scores

    def _on_device(self, *tensors: Tensor) -> list[Tensor]:
        return [tensor.to(self.scorer.device) for tensor in tensors]

    def _recent(self, histories: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the items (B, S) that a batch carries, and their number (B,)."""
        width = self.scorer.width
        items, lengths = _padded([history[-width:] for history in histories])
        if self.scorer.is_sequential:  # RecBole's models have one width
            items = torch.nn.functional.pad(items, (0, width - items.size(1)))
        return items, lengths

    def _batch(self, items: Tensor, lengths: Tensor, user: int = 0) -> Tensor:
        users = torch.full((len(items),), user)
        batch = Interaction({self.scorer.dataset.uid_field: users})
        batch.update(self.scorer.sequences(items, lengths))
        return self.scorer.batch(batch)

    def _reads_items_alone(self) -> bool:
        """Return whether the scores of a history are the same for every user.

        Models of ours say so; RecBole's are tried with two users.
        """
        if self.hooks.ranks_histories:
            return True
        items, lengths = self._recent([torch.tensor([1])])
        if not self.scorer.is_sequential:
            return self.hooks.history_scores(*self._on_device(items, lengths)) is not None
        one, other = (self._batch(items, lengths, user) for user in (0, 1))
        return torch.equal(one, other)


def _padded(histories: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return items (B, S), zeros behind them, and their number (B,)."""
    lengths = torch.tensor([len(history) for history in histories])
    return pad_sequence(list(histories), batch_first=True), lengths


def _item_weights(model: torch.nn.Module) -> Any:
    """Return W (I, I) of a model whose scores are a user's row of interactions times W."""
    if isinstance(model, ItemKNN) and model.method == "item":
        return model.w
    return model.item_similarity if isinstance(model, EASE | SLIMElastic) else None


def _linear_scores(histories: Sequence[Tensor], weights: Any) -> Tensor:
    """Return X W (B, I) float32, where X has a one for each item of a history."""
    row = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    column = torch.cat(list(histories)).numpy()
    shape = (len(histories), weights.shape[0])
    matrix = sp.csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=shape)
    matrix.data[:] = 1  # an item that stands in a history twice counts once
    scores = matrix @ weights
    return torch.from_numpy(np.asarray(scores.todense() if sp.issparse(scores) else scores))
