"""One run, from settings to a run record: data, split, stages, training, evaluation."""

import json
import logging
import pickle
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import colorlog
import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataset.dataset import Dataset
from recbole.utils import init_seed
from recbole.utils.logger import RemoveColorFilter
from torch import nn

from recbole_llm.config import Config
from recbole_llm.data.loader import FullRankLoader
from recbole_llm.data.loading import Loaders, Split, build_loaders, load_split
from recbole_llm.data.profile import check_split
from recbole_llm.record import RunRecord, Stage, describe_data, find_unfinished, new_record
from recbole_llm.trainer.cold import cold_metrics
from recbole_llm.trainer.harness import HarnessMixin
from recbole_llm.trainer.ranking import Ranking
from recbole_llm.trainer.staged import StageOutput, run_stages
from recbole_llm.trainer.trainer import build_trainer


class RunStopped(Exception):  # noqa: N818 - not an error: the run's driver has seen enough
    """Raised by ``Hooks.on_validation`` to end a run early; its record says ``stopped``."""


class Hooks(NamedTuple):
    """What a driver of many runs, such as a sweep, adds to one of them.

    Attributes:
        on_validation: called after each validation with the epoch and the ``valid_metric``.
        evaluate_test: False keeps the test part out of the run: it is never scored.
        origin: what the run belongs to, kept in the record.
    """

    on_validation: Callable[[int, float], None] | None = None
    evaluate_test: bool = True
    origin: Mapping[str, Any] = {}


def run(
    model: str | None = None,
    dataset: str | None = None,
    *,
    config_files: Sequence[str | Path] = (),
    command_line: Mapping[str, Any] | None = None,
    hooks: Hooks | None = None,
    **overrides: Any,
) -> RunRecord:
    """Train a model, evaluate it once on the test part, and return the run's record.

    Args:
        model: a model of ours or RecBole's, or ``package.module:Class``.
        dataset: name of a data set.
        config_files: YAML files, the later over the earlier.
        command_line: parsed ``--key=value`` settings; over everything else.
        hooks: of the driver that this run is one of many of.
        overrides: settings by name, e.g. ``epochs=5``; over the files.

    Returns:
        The record, as written to ``runs/<id>/record.json``.

    Raises:
        ValueError: a setting or a file is wrong; the text says which and what to do.
        FileNotFoundError: a file is missing.
    """
    hooks = hooks or Hooks()
    config = Config(model, dataset, config_files, overrides, command_line)
    config.check_available()
    record = find_unfinished(config) if config["resume"] else None
    resumed = record is not None
    record = record or new_record(config, shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))
    record.status, record.error = "running", ""
    record.origin = dict(hooks.origin)
    if config["torch_threads"]:
        torch.set_num_threads(config["torch_threads"])
    with _logging_to(record, config):
        logger = logging.getLogger()
        logger.info("Run %s%s", record.folder, " (resumed)" if resumed else "")
        if config["resume"] and not resumed:
            logger.info("--resume: no unfinished run of these settings; starting a new one")
        record.save()
        try:
            _run(config, record, resumed, hooks)
        except BaseException as error:
            record.status, record.error = "failed", f"{type(error).__name__}: {error}"
            if isinstance(error, KeyboardInterrupt):
                record.status, record.error = "interrupted", "interrupted by the user"
            elif isinstance(error, RunStopped):
                record.status, record.error = "stopped", str(error)
            logger.debug(traceback.format_exc())
            with suppress(OSError):  # a full disk: what stopped the run is the news
                record.finish()
            raise
        record.status = "finished"
        record.finish()
    return record


def _run(config: Config, record: RunRecord, resumed: bool, hooks: Hooks) -> None:
    logger = logging.getLogger()
    with record.stage("data"):
        split = load_split(config)
        data = describe_data(split.dataset, split[1:])
        known = {name: record.data.get(name) for name in ("files", "split")}
        if resumed and record.data and any(data[name] != known[name] for name in known):
            raise ValueError(
                f"--resume: the data or its split is not that of {record.folder}. "
                f"Leave --resume out to start anew."
            )
        record.data = data
        if config["user_profile"] not in (None, "mean", "random"):
            check_split(Path(config["user_profile"]), data["split"])
        logger.info("%s", split.dataset)
    key = {"files": data["files"], "split": data["split"]}
    outputs: dict[str, StageOutput] | None = None
    if hasattr(config.model_class, "required_stages"):

        def train_stage(sub: Config, folder: Path, stage: Stage) -> StageOutput:
            trainer, loaders = fit(sub, split, folder, resume=True, stage=stage)
            trainer.load_best()
            for name, loader in _parts(loaders, hooks.evaluate_test):
                stage.metrics[name] = dict(trainer.evaluate(loader, False) or {})
            return trainer.model.export()

        outputs = run_stages(config, key, record, train_stage)
        if not hooks.evaluate_test:  # a stage from the cache may bring the test's metrics
            for done in record.stages:
                done.metrics.pop("test", None)
    with record.stage("training") as stage:
        folder = Path(config["checkpoint_dir"]) / record.id
        trainer, loaders = fit(
            config, split, folder, config["resume"], outputs, stage, hooks.on_validation
        )
    record.best_epoch, record.epochs = trainer.best_epoch, trainer.epochs_log
    record.files["checkpoint"] = trainer.saved_model_file
    with record.stage("evaluation"):
        evaluate(config, record, split, trainer, loaders, hooks.evaluate_test)
    for left in (trainer.last_file, *folder.glob(".*.partial")):  # the latter of a killed run
        left.unlink(missing_ok=True)
    if hasattr(trainer.model, "export_adapter"):
        record.files["adapter"] = str(folder / "adapter")
        trainer.model.export_adapter(folder / "adapter")


def _parts(loaders: Loaders, with_test: bool) -> list[tuple[str, AbstractDataLoader]]:
    """Return the parts to score by name; test last, if at all."""
    return [("valid", loaders.valid), *([("test", loaders.test)] if with_test else [])]


def evaluate(
    config: Config,
    record: RunRecord,
    split: Split,
    trainer: HarnessMixin,
    loaders: Loaders,
    with_test: bool = True,
) -> None:
    """Measure the chosen weights on validation, then once on test, into ``record``."""
    logger = logging.getLogger()
    trainer.load_best()
    for name, loader in _parts(loaders, with_test):
        result = trainer.evaluate(loader, False, show_progress=config["show_progress"])
        if result is None:
            continue
        record.metrics[name] = dict(result)
        if config["save_topk"] and trainer.ranking is not None:
            path = Path(record.folder) / f"topk-{name}.jsonl"
            save_topk(path, split.dataset, trainer.ranking)
            record.files[f"topk_{name}"] = str(path)
        if trainer.ranking is not None and isinstance(loader, FullRankLoader):
            groups = cold_metrics(trainer, loader, split.train, record.metrics[name])
            record.metrics_cold[name] = groups
    # Only what the model asked for: a model without modalities builds none.
    record.data["modalities"] = {
        name: {
            "dim": split.dataset.modality(name).size(1),
            "missing_items": split.dataset.missing_items(name),
            "missing_rate": split.dataset.missing_items(name) / (split.dataset.item_num - 1),
            "policy": config["missing_modality"],
        }
        for name in getattr(split.dataset, "loaded_modalities", [])
    }
    record.data["user_profiles"] = {
        folder: {"sha256": it.sha256, "missing_users": it.n_missing, "leaky": it.is_leaky}
        for folder, it in getattr(split.dataset, "profile_sets", {}).items()
    }
    logger.info("best valid : %s", record.metrics.get("valid"))
    logger.info("test result: %s", record.metrics.get("test"))


def fit(
    config: Config,
    split: Split,
    folder: Path,
    resume: bool = False,
    outputs: dict[str, StageOutput] | None = None,
    stage: Stage | None = None,
    on_validation: Callable[[int, float], None] | None = None,
) -> tuple[HarnessMixin, Loaders]:
    """Build and train one model; its checkpoints go to ``folder``.

    Args:
        config: settings of the model.
        split: the data.
        folder: of ``best.pth`` and ``last.pth``.
        resume: go on from ``last.pth`` when it is there.
        outputs: of the earlier stages, for a staged model.
        stage: gets the parameter counts.
        on_validation: called after each validation with the epoch and the ``valid_metric``.
    """
    logger = logging.getLogger()
    loaders = build_loaders(config, split)
    init_seed(config["seed"], config["reproducibility"])
    model_class = config.model_class
    arguments = (config, split.train) if outputs is None else (config, split.train, outputs)
    try:
        model = model_class(*arguments).to(config["device"])
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"model {config['model']}: its pre-trained file holds pickled code and is not loaded. "
            f"Pre-train again with `run_recbole`, whose checkpoints are safe to load."
        ) from error
    except (RuntimeError, MemoryError) as error:
        if "alloc" not in str(error) and not isinstance(
            error, (torch.OutOfMemoryError, MemoryError)
        ):
            raise
        raise ValueError(
            f"model {config['model']} does not fit into memory: {str(error).splitlines()[0]}. "
            f"Lower its sizes, such as embedding_size."
        ) from error
    trainable, total = count_parameters(model)
    if stage is not None:
        stage.trainable, stage.parameters = trainable, total
    logger.info(
        "%s: %s trainable of %s parameters, settings %s",
        config["model"],
        f"{trainable:,}",
        f"{total:,}",
        json.dumps(config.to_dict()),
    )
    trainer = build_trainer(config, model)
    trainer.use_folder(folder)
    if resume:
        trainer.resume(loaders.train)
    trainer.fit(
        loaders.train,
        loaders.valid,
        saved=True,
        show_progress=bool(config["show_progress"]),
        callback_fn=on_validation,
    )
    return trainer, loaders


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return the trainable and all parameters of a model."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes)


def save_topk(path: Path, dataset: Dataset, ranking: Ranking) -> None:
    """Write one JSON line a user: its token, its best items' tokens and their scores.

    ``hits`` holds the ranks, from 0, of the items that the part holds, ``n_positives`` their number
    whether ranked or not: a report tests differences between runs with them, without the data.
    """
    users = dataset.id2token(dataset.uid_field, ranking.users)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for user, items, scores, hits, n_positives in zip(users, *ranking[1:], strict=True):
            ranked = torch.isfinite(scores)  # fewer than K items may be left to rank
            tokens = dataset.id2token(dataset.iid_field, items[ranked]).tolist()
            line = {
                "user": str(user),
                "items": tokens,
                "scores": scores[ranked].tolist(),
                "hits": hits[ranked].nonzero().flatten().tolist(),
                "n_positives": int(n_positives),
            }
            file.write(json.dumps(line) + "\n")


@contextmanager
def _logging_to(record: RunRecord, config: Config) -> Iterator[None]:
    """Log to the console and to ``log/<model>/<run>.log`` while a run goes on."""
    path = Path("log") / config["model"] / f"{record.id}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    record.files["log"] = str(path)
    to_file = logging.FileHandler(path, encoding="utf-8")
    to_file.addFilter(RemoveColorFilter())
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    console = logging.StreamHandler()
    console.setFormatter(
        colorlog.ColoredFormatter("%(log_color)s%(asctime)s %(message)s", "%H:%M:%S")
    )
    level = getattr(logging, str(config["state"]).upper(), logging.INFO)
    console.setLevel(level)
    root = logging.getLogger()
    before = root.level
    root.setLevel(level)
    for handler in (to_file, console):
        root.addHandler(handler)
    try:
        yield
    finally:
        root.setLevel(before)
        for handler in (to_file, console):
            root.removeHandler(handler)
            handler.close()
