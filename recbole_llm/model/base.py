"""The hooks that a model may define, and the base of models whose score is an inner product."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from torch import Tensor

from recbole_llm.config import Config
from recbole_llm.data.sequence_loader import TARGET_SEQ
from recbole_llm.processes import WHOLE, Share
from recbole_llm.registry import StageSpec


class ModelHooks:
    """Everything that a model may define besides RecBole's own methods, with its default.

    A model defines the hooks that it needs; deriving from this class is optional, and whoever
    calls a hook goes through ``hooks_of``. RecBole's models have the defaults. The calls, in order:

        required_stages, check_settings            before anything is read
        check_available                            before anything is trained
        __init__(config, dataset, stage_outputs)   the third only of a model with earlier stages
        begin_epoch                                before each epoch of training
            calculate_loss, backward, after_backward   once a batch
            optimizer.step, after_step                 once a group of accumulated batches
        n_loss_terms, loss_share                   in place of calculate_loss, of several processes
        export, export_adapter, head_weights, user_views, history_scores
                                                   with the weights that validation chose

    RecBole's own models with a trainer of their own (KGAT, RecVAE, ...) are trained by its loops,
    which call none of the hooks of an epoch.

    Attributes:
        train_loader: class of the training loader, or a function that builds it, called as
            RecBole's loaders are ``(config, dataset, sampler, shuffle=...)``; None for RecBole's of
            the model's type.
        needs_history: whether evaluation batches, and those of ``user_views``, carry each user's
            recent items (``item_id_list`` and ``item_length``) next to the user's id.
        ranks_histories: whether the scores depend on those recent items alone, so that new users
            can be ranked by a history.
        draws_by_row: whether the loss draws random numbers for each row of a batch, such as those
            of dropout. Of several processes each then draws its own; else all draw the same.
        splits_batches: whether several processes can share the loss of a batch; of a model that
            needs a ``loss_share`` and has none they are refused.
    """

    train_loader: ClassVar[Callable[..., AbstractDataLoader] | None] = None
    needs_history: ClassVar[bool] = False
    ranks_histories: ClassVar[bool] = False
    draws_by_row: ClassVar[bool] = True
    splits_batches: ClassVar[bool] = True

    @classmethod
    def check_settings(cls, config: Config) -> None:
        """Check how settings fit each other, before anything is read.

        Raises:
            ValueError: two or more settings contradict each other; the text names them.
        """

    @classmethod
    def check_available(cls, config: Config) -> None:
        """Look up what the model reads besides the dataset, such as a language model's files.

        Raises:
            ValueError, OSError, ImportError: something is missing; the text says what to do.
        """

    @classmethod
    def required_stages(cls, config: Config) -> dict[str, StageSpec]:
        """Return the models to train first, by the name of their stage.

        Their settings are ``<name>_stage``; what they ``export`` reaches ``__init__`` by that name.
        """
        return {}

    def begin_epoch(self) -> None:
        """Prepare an epoch, such as by drawing a graph anew."""

    def after_backward(self) -> None:
        """Take up what the batch that was just differentiated leaves for later batches."""

    def after_step(self) -> None:
        """Follow a step of the optimizer, whose gradients may come from several batches."""

    def n_loss_terms(self, batch: Interaction) -> int:
        """Return how many terms the loss of a batch is the mean of: its targets, or its rows."""
        targets = batch.interaction.get(TARGET_SEQ)
        return len(batch) if targets is None else int((targets > 0).sum())

    def loss_share(self, batch: Interaction, share: Share) -> Tensor | None:
        """Return what one of several processes adds to the loss of a batch.

        The shares of all processes add up to ``calculate_loss(batch)``, and so do their gradients.
        All processes call this with the same batch, of at least as many rows as processes. A model
        whose loss is not a mean over its rows or targets, such as one with a contrast within the
        batch, defines it.

        Args:
            batch: the whole batch.
            share: part of the process; ``share.rows(n)`` are its own of n rows.

        Returns:
            The share, a scalar; None: the loss of the own rows, weighed by ``n_loss_terms``.
        """
        return None

    def export(self) -> dict[str, Tensor]:
        """Return what a later stage of another model takes over, such as ``item_embedding`` (I, d).

        A model that is a stage has to define it. It is called in evaluation mode.
        """
        return {}

    def export_adapter(self, folder: Path) -> Path | None:
        """Write the trained adapter for other programs and return its folder; None without one."""
        return None

    def head_weights(self) -> dict[str, Tensor]:
        """Return the weights that turn the state of a language model into scores, by name.

        Their rows are items by internal id where they have I of them. Empty for other models.
        """
        return {}

    def user_views(self, interaction: Interaction) -> dict[str, Tensor]:
        """Return the embeddings (B, d) of a batch of users, by the name of each way to read them.

        Empty for a model that does not rank by embeddings of users.
        """
        return {}

    def history_scores(self, items: Tensor, lengths: Tensor) -> Tensor | None:
        """Return the scores (B, I) for new users, known by items (B, S) alone; None if it cannot.

        Only of a model that ranks new users without reading them from a batch.

        Args:
            items: (B, S) int64, oldest first, zeros behind them.
            lengths: (B,) int64, at least 1.
        """
        return None


_HOOKS = [name for name in vars(ModelHooks) if not name.startswith("_")]


def hooks_of(model: Any) -> Any:
    """Return the hooks of a model, or of a model class: its own, and the defaults of the others.

    Args:
        model: any recommender of ours, of RecBole or of a user, or its class.
    """
    kind = model if isinstance(model, type) else type(model)
    if issubclass(kind, ModelHooks):
        return model
    default = ModelHooks if kind is model else ModelHooks()
    return SimpleNamespace(
        **{name: getattr(model, name, getattr(default, name)) for name in _HOOKS}
    )


def total_loss(loss: Any) -> Tensor:
    """Return a model's loss as a scalar; RecBole's models return a tensor or a tuple of terms."""
    terms = loss if isinstance(loss, tuple) else (loss,)
    return sum((term.sum() for term in terms[1:]), terms[0].sum())


def share_of_loss(model: Any, batch: Interaction, share: Share) -> Tensor:
    """Return what one of several processes adds to the loss of a batch, a scalar.

    Args:
        model: model whose loss can be split, see ``can_share_loss``.
        batch: the whole batch, the same in every process.
        share: part of the process. Of fewer rows than processes the first process takes all.
    """
    if len(batch) < share.n_processes:
        if share.number:
            return torch.zeros((), requires_grad=True, device=model.device)
        share = WHOLE
    hooks = hooks_of(model)
    own = hooks.loss_share(batch, share)
    if own is not None:
        return own
    rows = batch[share.rows(len(batch))]
    weight = hooks.n_loss_terms(rows) / hooks.n_loss_terms(batch)
    return total_loss(model.calculate_loss(rows)) * weight


def can_share_loss(model_class: type) -> bool:
    """Return whether it is known how the loss of a model is split over several processes.

    It is of the models of this package, whose shares a test adds up, and of models that define
    ``n_loss_terms`` or ``loss_share`` themselves.
    """
    hooks = ("n_loss_terms", "loss_share")
    if not hooks_of(model_class).splits_batches:
        return False
    return model_class.__module__.startswith("recbole_llm.") or any(
        hook in vars(kind)
        for kind in model_class.__mro__
        if not kind.__module__.startswith("recbole_llm.")
        for hook in hooks
    )


class DotProductRecommender(GeneralRecommender, ModelHooks):
    """A model whose score is the inner product of a user and an item embedding.

    A subclass's ``forward()`` returns (user_emb (U, d), item_emb (I, d)) for all ids. In evaluation
    it is called once; ``train()``, ``eval()`` and ``load_state_dict()`` forget the result.
    """

    draws_by_row = False  # what it draws, it draws for all users and items

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

    def user_views(self, interaction: Interaction) -> dict[str, Tensor]:
        """Return the embeddings (B, d) of a batch of users, the one way to read them."""
        return {"": self.embeddings()[0][interaction[self.USER_ID]]}

    def predict(self, interaction: Interaction) -> Tensor:
        """Return the scores (B,) of given user-item pairs."""
        user_emb, item_emb = self.embeddings()
        return (user_emb[interaction[self.USER_ID]] * item_emb[interaction[self.ITEM_ID]]).sum(-1)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Return scores of every item for each user, (B * I,), flat as the evaluator expects."""
        user_emb, item_emb = self.embeddings()
        return (user_emb[interaction[self.USER_ID]] @ item_emb.T).flatten()
