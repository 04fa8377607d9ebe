"""The trainer of a model: our gradient steps, or RecBole's special ones in our harness."""

from collections.abc import Callable
from typing import Any

import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.trainer import Trainer
from recbole.utils import get_trainer
from torch import nn
from tqdm import tqdm

from recbole_llm.config import Config
from recbole_llm.model.base import hooks_of
from recbole_llm.trainer.divergence import check_finite
from recbole_llm.trainer.harness import HarnessMixin
from recbole_llm.trainer.schedule import learning_rate_factor


class HarnessTrainer(HarnessMixin):
    """RecBole's plain Trainer with learning-rate schedules and gradient accumulation.

    Config keys: ``lr_schedule`` and its parameters (see ``schedule``),
    ``gradient_accumulation_steps``, ``adam_betas``.
    """

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        kwargs.setdefault("params", [p for p in self.model.parameters() if p.requires_grad])
        optimizer = super()._build_optimizer(**kwargs)
        for group in optimizer.param_groups:
            if "betas" in group and self.config["adam_betas"]:
                group["betas"] = tuple(self.config["adam_betas"])
        return optimizer

    def _train_epoch(
        self,
        train_data: AbstractDataLoader,
        epoch_idx: int,
        loss_func: Callable[..., Any] | None = None,
        show_progress: bool = False,
    ) -> float:
        """Train one epoch and return the mean loss of its batches.

        Raises:
            ValueError: the loss is NaN or infinite.
        """
        hooks = hooks_of(self.model)
        self.model.train()
        hooks.begin_epoch()
        loss_func = loss_func or self.model.calculate_loss
        accumulate = self.config["gradient_accumulation_steps"]
        n_batches = len(train_data)
        total, first = torch.zeros((), device=self.device), None
        bar = tqdm(train_data, desc=f"Train {epoch_idx:>5}", ncols=100, disable=not show_progress)
        self.optimizer.zero_grad()
        for index, interaction in enumerate(bar):
            if index % accumulate == 0:
                self._set_learning_rate(epoch_idx + index / n_batches)
                n_group = min(accumulate, n_batches - index)  # the last group may be smaller
            with torch.autocast(device_type=self.device.type, enabled=self.enable_amp):
                loss = loss_func(interaction.to(self.device))
            # RecBole's models return a scalar, a tensor of one element, or a tuple of terms.
            loss = sum(term.sum() for term in (loss if isinstance(loss, tuple) else (loss,)))
            first = loss.detach() if first is None else first
            (loss / n_group).backward()
            hooks.after_backward()
            total += loss.detach()
            if (index + 1) % accumulate == 0 or index + 1 == n_batches:
                self._step()
                hooks.after_step()
        mean = total.item() / max(n_batches, 1)
        check_finite(mean, epoch_idx)
        if self.first_loss is None and first is not None:
            self.first_loss = first.item()
        return mean

    def _step(self) -> None:
        """Step along the accumulated gradients and clear them."""
        if self.clip_grad_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _set_learning_rate(self, epochs_done: float) -> None:
        factor = learning_rate_factor(self.config, epochs_done)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * factor


def build_trainer(config: Config, model: nn.Module) -> HarnessMixin:
    """Build the trainer of a model: ours, or RecBole's special one with our checkpoints.

    Raises:
        ValueError: RecBole trains this model by a tree library.
    """
    base = get_trainer(config["MODEL_TYPE"], config["model"])
    if base is Trainer:
        return HarnessTrainer(config, model)
    if not issubclass(base, Trainer):
        raise ValueError(
            f"model {config['model']} is trained by a tree library and not by gradient steps; "
            f"its checkpoints are pickles, which are not loaded here. It is not supported."
        )
    return type(f"Harness{base.__name__}", (HarnessMixin, base), {})(config, model)
