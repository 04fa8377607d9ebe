"""What a model may define, and the base of models whose score is an inner product."""

from typing import Any, Self

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from torch import Tensor


class DotProductRecommender(GeneralRecommender):
    """A model whose score is the inner product of a user and an item embedding.

    A subclass's ``forward()`` returns (user_emb (U, d), item_emb (I, d)) for all ids. In evaluation
    it is called once; ``train()``, ``eval()`` and ``load_state_dict()`` forget the result.
    """

    _cached: tuple[Tensor, Tensor] | None = None

    def train(self, mode: bool = True) -> Self:
        """Set the mode and forget the embeddings kept for evaluation."""
        self._cached = None
        return super().train(mode)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load weights and forget the embeddings kept for evaluation."""
        self._cached = None
        return super().load_state_dict(*args, **kwargs)

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """Return the final user (U, d) and item (I, d) embeddings, without gradients."""
        if self.training or self._cached is None:
            with torch.no_grad():
                self._cached = self()
        return self._cached

    def export(self) -> dict[str, Tensor]:
        """Return the embeddings that a later stage of another model takes over."""
        user_emb, item_emb = self.embeddings()
        return {"user_embedding": user_emb.cpu(), "item_embedding": item_emb.cpu()}

    def predict(self, interaction: Interaction) -> Tensor:
        """Return the scores (B,) of given user-item pairs."""
        user_emb, item_emb = self.embeddings()
        return (user_emb[interaction[self.USER_ID]] * item_emb[interaction[self.ITEM_ID]]).sum(-1)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Return scores of every item for each user, (B * I,), flat as the evaluator expects."""
        user_emb, item_emb = self.embeddings()
        return (user_emb[interaction[self.USER_ID]] @ item_emb.T).flatten()
