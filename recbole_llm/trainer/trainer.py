"""The trainer of a model: our gradient steps, or RecBole's special ones in our harness."""

from collections.abc import Callable
from typing import Any

import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.trainer import Trainer
from recbole.utils import get_trainer
from torch import Tensor, nn
from tqdm import tqdm

from recbole_llm.config import Config
from recbole_llm.model.base import can_share_loss, hooks_of, share_of_loss, total_loss
from recbole_llm.processes import add_gradients, from_main, n_processes, own_share, rank, summed
from recbole_llm.trainer.checkpoint import random_state, set_random_state
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
        self._begin_epoch(hooks)
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
                loss = self._loss(loss_func, interaction.to(self.device))
            first = loss.detach() if first is None else first
            (loss / n_group).backward()
            hooks.after_backward()
            total += loss.detach()
            if (index + 1) % accumulate == 0 or index + 1 == n_batches:
                self._step()
                hooks.after_step()
        # Of several processes each has its share of every loss.
        total, first = summed(torch.stack([total, total if first is None else first])).tolist()
        mean = total / max(n_batches, 1)
        check_finite(mean, epoch_idx)
        if self.first_loss is None and n_batches:
            self.first_loss = first
        return mean

    def _begin_epoch(self, hooks: Any) -> None:
        """Prepare an epoch, alike in all processes; then let each draw its own dropout."""
        if n_processes() > 1:
            set_random_state(from_main(random_state))
        hooks.begin_epoch()
        if rank() and hooks.draws_by_row:
            torch.manual_seed(int(torch.randint(2**31, ())) + rank())

    def _loss(self, loss_func: Callable[..., Any], batch: Interaction) -> Tensor:
        """Return the loss of a batch, or this process's share of it, as a scalar."""
        if n_processes() > 1:
            return share_of_loss(self.model, batch, own_share())
        return total_loss(loss_func(batch))

    def _step(self) -> None:
        """Step along the accumulated gradients, of all processes, and clear them."""
        add_gradients(self.model.parameters())
        if self.clip_grad_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _set_learning_rate(self, epochs_done: float) -> None:
        factor = learning_rate_factor(self.config, epochs_done)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * factor


def check_processes(config: Config) -> None:
    """Check that several processes can train a model and its earlier stages.

    Raises:
        ValueError: it is not known how to split the loss of one of them.
    """
    if n_processes() == 1:
        return
    for each in (config, *config.stages.values()):
        if not can_share_loss(each.model_class):
            raise ValueError(
                f"model {each['model']} is trained by one process: how its loss is split over "
                f"{n_processes()} processes is not known. Start it without torchrun or accelerate. "
                f"A model of your own can define n_loss_terms or loss_share, see docs/clusters.md."
            )


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
