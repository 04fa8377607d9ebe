"""What of a training is saved, and how a killed one resumes from it."""

import json
from pathlib import Path
from typing import Any

import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.trainer import Trainer

from recbole_llm.trainer.checkpoint import (
    load_weights,
    random_state,
    save_checkpoint,
    saved_by,
    set_random_state,
)


class SavingMixin(Trainer):
    """Checkpoints of the best epoch (``best.pth``) and of the last one (``last.pth``).

    Attributes:
        checkpoint_folder: folder of both files; ``use_folder`` sets it before ``fit``.
        epochs_log: one dict an epoch: loss, seconds, validation metrics.
        best_epoch: the epoch that validation chose, counted from 0; None before the first.
    """

    checkpoint_folder: Path
    epochs_log: list[dict[str, Any]]
    best_epoch: int | None
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
            self.logger.info("Saved %s", path)

    def save_pretrained_model(self, epoch: int, saved_model_file: str) -> None:
        """Save the model of a RecBole pre-training stage (S3Rec, RaCT) in our format."""
        save_checkpoint(Path(saved_model_file), {"epoch": epoch, **self._model_state()})

    def _model_state(self) -> dict[str, Any]:
        return {
            "config": json.dumps(self.config.to_dict()),
            "state_dict": self.model.state_dict(),
            "other_parameter": self.model.other_parameter(),
        }

    def _save_last(self, epoch: int, train_data: AbstractDataLoader, finished: bool) -> None:
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
        if not self.last_file.exists():
            return False
        if not self.trains_by_epoch():
            raise ValueError(
                f"--resume: {self.config['model']} trains in a loop of its own in RecBole, which "
                f"cannot be resumed. Leave --resume out."
            )
        state = load_weights(self.model, self.last_file, self.device)
        unknown = sorted(set(state["counters"]) - set(vars(self.model)))
        if unknown:
            raise ValueError(
                f"--resume: {self.last_file}{saved_by(state)} keeps {', '.join(unknown)}, which "
                f"{self.config['model']} no longer has. Leave --resume out to train anew."
            )
        for name, value in state["counters"].items():
            setattr(self.model, name, value)
        for name, optimizer in self._optimizers().items():
            optimizer.load_state_dict(state["optimizers"][name])
        self._set_progress(state["epoch"], json.loads(state["progress"]))
        set_random_state(state["random"])
        train_data.generator.set_state(state["loader_random"].cpu())
        self.logger.info("Resumed after epoch %d from %s", state["epoch"], self.last_file)
        return True

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
        self.logger.info("Loaded epoch %d from %s", state["epoch"], path)
