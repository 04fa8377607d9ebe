"""What RecBole's Trainer lacks: safe checkpoints, exact resuming, schedules, fast ranking."""

import json
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.evaluator.collector import DataStruct
from recbole.trainer import Trainer
from recbole.utils import early_stopping
from torch import nn
from tqdm import tqdm

from recbole_llm.config import Config
from recbole_llm.data.loader import FullRankLoader
from recbole_llm.trainer.checkpoint import (
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
)
from recbole_llm.trainer.ranking import Ranking, rank_batch


class HarnessMixin(Trainer):
    """Checkpoints, resuming and ranking for any of RecBole's trainers.

    Attributes:
        checkpoint_folder: where ``best.pth`` and ``last.pth`` go; set before ``fit``.
        epochs_log: one dict an epoch: loss, seconds, validation metrics.
        best_epoch: the epoch that validation chose, counted from 0; None before the first.
        ranking: of the part evaluated last, or None where RecBole's own path measured it.
    """

    train_loss_dict: dict[int, float]
    best_valid_score: float
    cur_step: int
    item_tensor: Any

    def __init__(self, config: Config, model: nn.Module) -> None:
        super().__init__(config, model)
        self.epochs_log: list[dict[str, Any]] = []
        self.best_epoch: int | None = None
        self.ranking: Ranking | None = None
        self.use_folder(Path(config["checkpoint_dir"]))

    def use_folder(self, folder: Path) -> None:
        """Write checkpoints to ``folder``."""
        self.checkpoint_folder = folder
        self.saved_model_file = str(folder / "best.pth")

    @property
    def last_file(self) -> Path:
        """The state that a killed run goes on from."""
        return self.checkpoint_folder / "last.pth"

    # -- training ------------------------------------------------------------------------------

    def fit(
        self,
        train_data: AbstractDataLoader,
        valid_data: AbstractDataLoader | None = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> tuple[float, dict[str, float] | None]:
        """Train with early stopping on the validation part; see RecBole's ``Trainer.fit``.

        A state to resume from is saved after an epoch, at most every ``checkpoint_s`` seconds.
        """
        if not self._trains_by_epoch():
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
        saved_at = time.monotonic()
        for epoch in range(self.start_epoch, self.epochs):
            stop = self._one_epoch(
                epoch, train_data, valid_data, verbose, saved, show_progress, callback_fn
            )
            due = time.monotonic() - saved_at >= self.config["checkpoint_s"]
            if saved and (due or stop or epoch + 1 == self.epochs):
                self._save_last(epoch, train_data, finished=stop or epoch + 1 == self.epochs)
                saved_at = time.monotonic()
            if stop:
                if verbose:
                    self.logger.info("Stopped early: the best epoch was %s", self.best_epoch)
                break
        return self.best_valid_score, self.best_valid_result

    def _trains_by_epoch(self) -> bool:
        """Whether RecBole's own loop is the plain one, which this class replaces."""
        base: Any = next(c for c in type(self).__mro__ if c.__module__.startswith("recbole."))
        return base.fit is Trainer.fit

    def _one_epoch(
        self,
        epoch: int,
        train_data: AbstractDataLoader,
        valid_data: AbstractDataLoader | None,
        verbose: bool,
        saved: bool,
        show_progress: bool,
        callback_fn: Callable[[int, float], None] | None,
    ) -> bool:
        """Train one epoch, validate when it is due; return whether to stop."""
        begin = time.monotonic()
        losses = self._train_epoch(train_data, epoch, show_progress=show_progress)
        loss = sum(losses) if isinstance(losses, tuple) else losses
        entry: dict[str, Any] = {"epoch": epoch, "loss": loss, "train_s": time.monotonic() - begin}
        self.train_loss_dict[epoch] = loss
        self.epochs_log.append(entry)
        if verbose:
            self.logger.info(self._generate_train_loss_output(epoch, 0, entry["train_s"], losses))
        self._add_train_loss_to_tensorboard(epoch, losses)
        stop = False
        if not valid_data or self.eval_step <= 0:
            self.best_epoch = epoch
            if saved:
                self._save_best(epoch)
        elif (epoch + 1) % self.eval_step == 0:
            begin = time.monotonic()
            score, result = self._valid_epoch(valid_data, show_progress=show_progress)
            entry |= {"valid": dict(result), "valid_s": time.monotonic() - begin}
            self.best_valid_score, self.cur_step, stop, better = early_stopping(
                score,
                self.best_valid_score,
                self.cur_step,
                max_step=self.stopping_step,
                bigger=self.valid_metric_bigger,
            )
            if verbose:
                self.logger.info(
                    "epoch %d validated in %.2fs: %s", epoch, entry["valid_s"], show_metrics(result)
                )
            if better:
                self.best_epoch, self.best_valid_result = epoch, result
                if saved:
                    self._save_best(epoch)
            if callback_fn:
                callback_fn(epoch, score)
        return stop

    # -- checkpoints ---------------------------------------------------------------------------

    def _save_best(self, epoch: int) -> None:
        self._save_checkpoint(epoch, verbose=False)

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        path = Path(kwargs.pop("saved_model_file", self.saved_model_file))
        save_checkpoint(path, {"epoch": epoch, **self._model_state()})
        if not self._trains_by_epoch():  # RecBole's own loop saves the best epoch and no other
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
        save_checkpoint(
            self.last_file,
            {
                "epoch": epoch,
                **self._model_state(),
                "optimizers": {name: it.state_dict() for name, it in self._optimizers().items()},
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
            Whether there was one; False leaves everything as it was.

        Raises:
            ValueError: the file is damaged, or this model's RecBole trainer cannot resume.
        """
        if not self.last_file.exists():
            return False
        if not self._trains_by_epoch():
            raise ValueError(
                f"--resume: {self.config['model']} trains in a loop of its own in RecBole, which "
                f"cannot be resumed. Leave --resume out."
            )
        state = load_checkpoint(self.last_file, self.device)
        self.model.load_state_dict(state["state_dict"])
        self.model.load_other_parameter(state["other_parameter"])
        for name, value in state["counters"].items():
            setattr(self.model, name, value)
        for name, optimizer in self._optimizers().items():
            optimizer.load_state_dict(state["optimizers"][name])
        progress = json.loads(state["progress"])
        self.cur_step = progress["cur_step"]
        self.best_valid_score = progress["best_valid_score"]
        self.best_valid_result = progress["best_valid_result"]
        self.best_epoch = progress["best_epoch"]
        self.epochs_log = progress["epochs_log"]
        self.train_loss_dict = {entry["epoch"]: entry["loss"] for entry in self.epochs_log}
        self.start_epoch = self.epochs if progress["finished"] else state["epoch"] + 1
        set_random_state(state["random"])
        train_data.generator.set_state(state["loader_random"].cpu())
        self.logger.info("Resumed after epoch %d from %s", state["epoch"], self.last_file)
        return True

    def load_best(self, model_file: str | None = None) -> None:
        """Load the weights that validation chose."""
        path = Path(model_file or self.saved_model_file)
        state = load_checkpoint(path, self.device)
        self.model.load_state_dict(state["state_dict"])
        self.model.load_other_parameter(state["other_parameter"])
        self.logger.info("Loaded epoch %d from %s", state["epoch"], path)

    # -- evaluation ----------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(
        self,
        eval_data: AbstractDataLoader,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> "OrderedDict[str, float] | None":
        """Measure the model on one part of the split, with RecBole's own metrics.

        Metrics that need only the top of the ranking are fed from ``rank_batch``; the others
        (GAUC) go through RecBole's loop.
        """
        if not eval_data:
            return None
        if load_best_model:
            self.load_best(model_file)
        needs = {need for need in _COLLECTED if self.eval_collector.register.need(need)}
        if needs - {"rec.topk", "rec.items"} or not isinstance(eval_data, FullRankLoader):
            self.ranking = None
            result = super().evaluate(eval_data, False, show_progress=show_progress)
        else:
            self.ranking = self._rank(eval_data, show_progress)
            struct = DataStruct()
            for key, value in self.eval_collector.data_struct._data_dict.items():
                struct.set(key, value)
            k = max(self.config["topk"])  # the ranking is longer where save_topk is
            hits, n_positives = self.ranking.hits[:, :k], self.ranking.n_positives
            struct.set("rec.topk", torch.cat([hits.int(), n_positives.int().unsqueeze(1)], dim=1))
            struct.set("rec.items", self.ranking.items[:, :k])
            result = self.evaluator.evaluate(struct)
        return OrderedDict((name, float(value)) for name, value in result.items())

    def _rank(self, eval_data: FullRankLoader, show_progress: bool) -> Ranking:
        self.model.eval()
        self.tot_item_num = eval_data.n_items
        if self.item_tensor is None:
            self.item_tensor = eval_data._dataset.get_item_feature().to(self.device)
        longest = max(self.config["topk"])
        if longest > eval_data.n_items:
            raise ValueError(
                f"topk asks for the best {longest} items, and the data set has "
                f"{eval_data.n_items - 1}. Set a smaller --topk."
            )
        k = min(max(longest, self.config["save_topk"]), eval_data.n_items)
        users, parts = [], []
        for batch in tqdm(eval_data, desc="Evaluate", ncols=100, disable=not show_progress):
            interaction, _, pos_row, pos_item = batch
            scores = self._full_sort_batch_eval((interaction, None, pos_row, pos_item))[1]
            if eval_data.candidates is not None:
                scores[:, ~eval_data.candidates.to(scores.device)] = -torch.inf
            hidden = None
            if batch[1] is not None:
                hidden = batch[1][0].to(scores.device), batch[1][1].to(scores.device)
            ranked = rank_batch(
                scores, hidden, pos_row.to(scores.device), pos_item.to(scores.device), k
            )
            parts.append([part.cpu() for part in ranked])
            users.append(interaction[eval_data.uid_field].cpu())
        items, scores, hits, n_positives = (torch.cat(part) for part in zip(*parts, strict=True))
        return Ranking(torch.cat(users), items, scores.float(), hits, n_positives)


# What RecBole's collector may gather besides counts of the data set.
_COLLECTED = ("rec.topk", "rec.items", "rec.meanrank", "rec.score", "data.label")


def show_metrics(result: dict[str, float]) -> str:
    """Return ``recall@10 0.1234  ndcg@10 0.0567``."""
    return "  ".join(f"{name} {value:.4f}" for name, value in result.items())
