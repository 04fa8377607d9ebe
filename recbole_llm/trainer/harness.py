"""What RecBole's Trainer lacks: safe checkpoints, exact resuming, fast ranking."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.utils import early_stopping
from torch import nn

from recbole_llm.config import Config
from recbole_llm.metrics.collector import MetricCollector
from recbole_llm.trainer.divergence import check_finite, warn_of_growth
from recbole_llm.trainer.evaluation import EvaluationMixin
from recbole_llm.trainer.progress import EpochLines

#: A function that gets the epoch, counted from 0, and its ``valid_metric``.
OnValidation = Callable[[int, float], None]


class HarnessMixin(EvaluationMixin):
    """The training loop over epochs, for any of RecBole's trainers; its state and its ranking.

    Attributes:
        first_loss: loss of the first batch; None where RecBole's loop does not say it.
    """

    first_loss: float | None
    lines: EpochLines | None

    def __init__(self, config: Config, model: nn.Module) -> None:
        super().__init__(config, model)
        self.eval_collector = MetricCollector(config)
        self.epochs_log = []
        self.best_epoch = None
        self.ranking = None
        self.first_loss = None
        self.lines = None
        self.use_folder(Path(config["checkpoint_dir"]))

    def fit(
        self,
        train_data: AbstractDataLoader,
        valid_data: AbstractDataLoader | None = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: OnValidation | None = None,
    ) -> tuple[float, dict[str, float] | None]:
        """Train with early stopping on the validation part; see RecBole's ``Trainer.fit``.

        A state to resume from is saved after every epoch that takes long enough for it, else
        after several, see ``_is_save_due``.
        """
        if not self.trains_by_epoch():
            best = super().fit(train_data, valid_data, verbose, saved, show_progress, callback_fn)
            losses = self.train_loss_dict.items()
            self.epochs_log = [{"epoch": epoch, "loss": float(loss)} for epoch, loss in losses]
            if saved and self.best_epoch is None:  # a pre-training stage chooses no epoch
                self._save_best(max(self.train_loss_dict, default=-1))
            return best
        self.eval_collector.data_collect(train_data)
        if self.config["train_neg_sample_args"].get("dynamic", False):
            train_data.get_model(self.model)
        if saved and self.start_epoch == 0:
            self._save_best(-1)  # epochs: 0 still leaves a model to evaluate
        self.saved_at, self.save_s = time.monotonic(), 0.0
        metric, patience = self.config["valid_metric"], self.stopping_step
        self.lines = EpochLines(self.epochs, metric, patience) if verbose else None
        for epoch in range(self.start_epoch, self.epochs):
            stop = self._one_epoch(epoch, train_data, valid_data, saved, show_progress, callback_fn)
            finished = stop or epoch + 1 == self.epochs
            if saved and (finished or self._is_save_due()):
                self._save_last(epoch, train_data, finished=finished)
            if stop:
                if verbose:
                    best = (self.best_epoch or 0) + 1
                    self.logger.info("stopped early: no gain since epoch %d", best)
                break
        return self.best_valid_score, self.best_valid_result

    def _one_epoch(
        self,
        epoch: int,
        train_data: AbstractDataLoader,
        valid_data: AbstractDataLoader | None,
        saved: bool,
        show_progress: bool,
        callback_fn: OnValidation | None,
    ) -> bool:
        """Train one epoch and validate when it is due; return whether to stop."""
        begin = time.monotonic()
        losses = self._train_epoch(train_data, epoch, show_progress=show_progress)
        loss = sum(losses) if isinstance(losses, tuple) else losses
        entry: dict[str, Any] = {"epoch": epoch, "loss": loss, "train_s": time.monotonic() - begin}
        self.train_loss_dict[epoch] = loss
        self.epochs_log.append(entry)
        check_finite(loss, epoch)
        warn_of_growth([each["loss"] for each in self.epochs_log], self.first_loss)
        self._add_train_loss_to_tensorboard(epoch, losses)
        if not valid_data or self.eval_step <= 0:
            self._choose(epoch, saved)
            self._tell(entry, None)
            return False
        if (epoch + 1) % self.eval_step:
            self._tell(entry, None)
            return False
        score, stop, is_best = self._validate(entry, valid_data, show_progress)
        if is_best:
            self._choose(epoch, saved)
        self._tell(entry, score)
        if callback_fn:
            callback_fn(epoch, score)
        return stop

    def _tell(self, entry: dict[str, Any], score: float | None) -> None:
        """Log the line of an epoch, and give its numbers to TensorBoard."""
        if self.lines is not None:
            best = {
                "score": self.best_valid_score,
                "epoch": self.best_epoch,
                "n_without_gain": self.cur_step,
            }
            self.logger.info(self.lines.line(entry, score, best))
        numbers = {
            "seconds/train": entry["train_s"],
            "seconds/valid": entry.get("valid_s"),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            **{f"valid/{name}": value for name, value in entry.get("valid", {}).items()},
        }
        for name, value in numbers.items():
            if value is not None:
                self.tensorboard.add_scalar(name, value, entry["epoch"])

    def _choose(self, epoch: int, saved: bool) -> None:
        self.best_epoch = epoch
        if saved:
            self._save_best(epoch)

    def _validate(
        self,
        entry: dict[str, Any],
        valid_data: AbstractDataLoader,
        show_progress: bool,
    ) -> tuple[float, bool, bool]:
        """Measure an epoch into its ``entry``.

        Returns:
            The ``valid_metric``, whether to stop, and whether this is the best epoch so far.
        """
        begin = time.monotonic()
        score, result = self._valid_epoch(valid_data, show_progress=show_progress)
        entry |= {"valid": dict(result), "valid_s": time.monotonic() - begin}
        self.best_valid_score, self.cur_step, stop, is_best = early_stopping(
            score,
            self.best_valid_score,
            self.cur_step,
            max_step=self.stopping_step,
            bigger=self.valid_metric_bigger,
        )
        if is_best:
            self.best_valid_result = result
        return score, stop, is_best
