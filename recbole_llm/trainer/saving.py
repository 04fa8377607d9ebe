"""What of a training is saved, and how a killed one resumes from it."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.trainer import Trainer

from recbole_llm.processes import from_main
from recbole_llm.trainer.checkpoint import (
    check_fields,
    load_weights,
    random_state,
    save_checkpoint,
    saved_by,
    set_random_state,
)
from recbole_llm.trainer.run_log import FILE_ONLY

# What saving may cost: this part of the time since the last save.
_MAX_COST = 0.03
_FIELDS = {
    "epoch": int,
    "optimizers": dict,
    "progress": str,
    "counters": dict,
    "random": dict,
    "loader_random": torch.Tensor,
}


class SavingMixin(Trainer):
    """Checkpoints of the best epoch (``best.pth``) and of the last one (``last.pth``).

    Attributes:
        checkpoint_folder: folder of both files; ``use_folder`` sets it before ``fit``.
        epochs_log: one dict an epoch: loss, seconds, validation metrics.
        best_epoch: the epoch that validation chose, counted from 0; None before the first.
        saved_at: time of the last save of ``last.pth``, or of the begin of training, in seconds.
        save_s: seconds that the last save of ``last.pth`` took; 0 before the first.
    """

    checkpoint_folder: Path
    epochs_log: list[dict[str, Any]]
    best_epoch: int | None
    saved_at: float
    save_s: float
    train_loss_dict: dict[int, float]
    best_valid_score: float
    cur_step: int

    def use_folder(self, folder: Path) -> None:
        """Write checkpoints to ``folder``."""
        self.checkpoint_folder = folder
        self.saved_model_file = str(folder / "best.pth")

    @property
    def last_file(self) -> Path:
        """Path of the state from which a killed run resumes."""
        return self.checkpoint_folder / "last.pth"

    def trains_by_epoch(self) -> bool:
        """Return whether RecBole's loop is the plain one, which ``HarnessMixin.fit`` replaces."""
        base: Any = next(c for c in type(self).__mro__ if c.__module__.startswith("recbole."))
        return base.fit is Trainer.fit

    def _save_best(self, epoch: int) -> None:
        self._save_checkpoint(epoch, verbose=False)

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        path = Path(kwargs.pop("saved_model_file", self.saved_model_file))
        save_checkpoint(path, {"epoch": epoch, **self._model_state()})
        if not self.trains_by_epoch():  # RecBole's own loop saves the best epoch and no other
            self.best_epoch = epoch
        if verbose:
            self.logger.info("saved %s", path, extra=FILE_ONLY)

    def save_pretrained_model(self, epoch: int, saved_model_file: str) -> None:
        """Save the model of a RecBole pre-training stage (S3Rec, RaCT) in our format."""
        save_checkpoint(Path(saved_model_file), {"epoch": epoch, **self._model_state()})

    def _model_state(self) -> dict[str, Any]:
        return {
            "config": json.dumps(self.config.to_dict()),
            "state_dict": self.model.state_dict(),
            "other_parameter": self.model.other_parameter(),
        }

    def _is_save_due(self) -> bool:
        """Return whether ``last.pth`` is to be saved after the epoch that just ended.

        It is when another save, as long as the last one, costs less than 3 % of the time since
        then, and after ``checkpoint_s`` seconds at any cost.
        """
        since = time.monotonic() - self.saved_at
        return since >= self.config["checkpoint_s"] or self.save_s <= _MAX_COST * since

    def _save_last(self, epoch: int, train_data: AbstractDataLoader, finished: bool) -> None:
        begin = time.monotonic()
        progress = {
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "best_valid_result": self.best_valid_result,
            "best_epoch": self.best_epoch,
            "epochs_log": self.epochs_log,
            "finished": finished,
        }
        optimizers = {
            name: optimizer.state_dict() for name, optimizer in self._optimizers().items()
        }
        save_checkpoint(
            self.last_file,
            {
                "epoch": epoch,
                **self._model_state(),
                "optimizers": optimizers,
                "progress": json.dumps(progress),
                "counters": self._counters(),
                "random": random_state(),
                "loader_random": train_data.generator.get_state(),
            },
        )
        self.saved_at = time.monotonic()
        self.save_s = self.saved_at - begin

    def _counters(self) -> dict[str, float]:
        """Return the model's plain numbers: MultiVAE and others count their steps in one."""
        plain = {k: v for k, v in vars(self.model).items() if type(v) in (int, float)}
        return {name: value for name, value in plain.items() if not name.startswith("_")}

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        found = {k: v for k, v in vars(self).items() if isinstance(v, torch.optim.Optimizer)}
        if len(found) > 1:  # RecVAE: `optimizer` is whichever of its two was used last
            del found["optimizer"]
        return found

    def resume(self, train_data: AbstractDataLoader) -> bool:
        """Go back to the last saved epoch, random generators included.

        Returns:
            Whether there was one; if not, everything stays as it was.

        Raises:
            ValueError: the file is damaged or was saved by a version whose model counts otherwise,
                or this model's RecBole trainer cannot resume.
        """
        if not from_main(self.last_file.exists):
            return False
        if not self.trains_by_epoch():
            raise ValueError(
                f"--resume: {self.config['model']} trains in a loop of its own in RecBole, which "
                f"cannot be resumed. Leave --resume out."
            )
        state = load_weights(self.model, self.last_file, self.device)
        check_fields(state, _FIELDS, self.last_file)
        self._set_counters(state)
        try:
            for name, optimizer in self._optimizers().items():
                _load_optimizer(optimizer, state["optimizers"][name])
            self._set_progress(state["epoch"], json.loads(state["progress"]))
            set_random_state(state["random"])
            train_data.generator.set_state(state["loader_random"].cpu())
        except Exception as error:  # of json, random, numpy or torch, each with kinds of its own
            raise self._damaged(state, error) from error
        self.logger.info("resumed after epoch %d", state["epoch"] + 1)
        return True

    def _damaged(self, state: Mapping[str, Any], error: Exception) -> ValueError:
        reason = " ".join(str(error).split()) or type(error).__name__
        return ValueError(
            f"--resume: checkpoint {self.last_file}{saved_by(state)} cannot be resumed from "
            f"({type(error).__name__}: {reason}). Leave --resume out to train anew."
        )

    def _set_counters(self, state: Mapping[str, Any]) -> None:
        """Set the model's plain numbers, and nothing else of it.

        Raises:
            ValueError: the model has no such number, or the value is no number.
        """
        known = self._counters()
        for name, value in state["counters"].items():
            if name not in known:
                raise ValueError(
                    f"--resume: {self.last_file}{saved_by(state)} keeps {name}, which "
                    f"{self.config['model']} no longer has. Leave --resume out to train anew."
                )
            if type(value) not in (int, float):
                raise self._damaged(state, TypeError(f"{name} is no number"))
            setattr(self.model, name, value)

    def _set_progress(self, epoch: int, progress: dict[str, Any]) -> None:
        self.cur_step = progress["cur_step"]
        self.best_valid_score = progress["best_valid_score"]
        self.best_valid_result = progress["best_valid_result"]
        self.best_epoch = progress["best_epoch"]
        self.epochs_log = progress["epochs_log"]
        self.train_loss_dict = {entry["epoch"]: entry["loss"] for entry in self.epochs_log}
        self.start_epoch = self.epochs if progress["finished"] else epoch + 1

    def load_best(self, model_file: str | None = None) -> None:
        """Load the weights that validation chose.

        Raises:
            FileNotFoundError, ValueError: as ``load_weights``.
        """
        path = Path(model_file or self.saved_model_file)
        state = load_weights(self.model, path, self.device)
        self.logger.info("loaded epoch %d from %s", state["epoch"] + 1, path, extra=FILE_ONLY)


def _load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimizer's state; torch compares the number of parameters and not their shapes."""
    optimizer.load_state_dict(state)
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape not in (parameter.shape, ()):
                raise ValueError(
                    f"the optimizer's {name} has shape {tuple(value.shape)}, its parameter "
                    f"{tuple(parameter.shape)}"
                )
