"""Models that need other models trained first: each stage's output is cached and reused."""

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from recbole.data.dataset.dataset import Dataset

from recbole_llm.config import Config
from recbole_llm.data.loading import Split
from recbole_llm.locks import only_writer
from recbole_llm.model.base import ModelHooks, hooks_of
from recbole_llm.processes import is_main
from recbole_llm.record import RunRecord, Stage
from recbole_llm.settings.fingerprint import VOLATILE_KEYS
from recbole_llm.trainer.checkpoint import check_fields, load_checkpoint, save_checkpoint
from recbole_llm.trainer.fit import StageOutput, fit_stage
from recbole_llm.trainer.run_log import FILE_ONLY
from recbole_llm.trainer.source import imported_files
from recbole_llm.version import __version__

# The module where the code begins that trains a stage, from its data on.
_TRAINING = fit_stage.__module__
_FIELDS = {"tensors": dict, "trainable": int, "parameters": int, "seconds": float, "metrics": str}


class PlannedStage(NamedTuple):
    """One stage of a model: its name, its model, their settings, and where its output is cached."""

    name: str
    model: str
    config: Config
    folder: Path

    @property
    def output(self) -> Path:
        """Path of what the finished stage exports."""
        return self.folder / "output.pth"


def plan_stages(config: Config, data_key: Mapping[str, Any]) -> list[PlannedStage]:
    """Return the stages that the model of ``config`` needs, in the order of their training.

    Args:
        config: settings of the model whose stages these are.
        data_key: fingerprints of the files and of the split.

    Raises:
        ValueError: settings of a stage are wrong, or its model exports nothing.
    """
    stages = []
    for name, spec in hooks_of(config.model_class).required_stages(config).items():
        sub_config = config.stages[name]
        if hooks_of(sub_config.model_class).export is ModelHooks.export:
            raise ValueError(
                f"stage {name!r} of {config['model']} is {spec.model}, which has no export() to "
                f"give its embeddings to the next stage."
            )
        key = _cache_key(sub_config, data_key)
        folder = f"{spec.model}-{config['dataset']}-{key}"
        path = Path(sub_config["cache_dir"]) / "stages" / folder
        stages.append(PlannedStage(name, spec.model, sub_config, path))
    return stages


def run_stages(
    config: Config,
    split: Split,
    data_key: Mapping[str, Any],
    record: RunRecord,
    with_test: bool = True,
) -> dict[str, StageOutput]:
    """Return the output of every stage that the model of ``config`` needs, by name.

    A finished stage is read from ``cache_dir``; an unfinished one resumes from its last saved
    epoch. The cache key holds the stage's settings, the data and its split, and the code.

    Args:
        config: settings of the model whose stages these are.
        split: dataset and its parts.
        data_key: fingerprints of the files and of the split.
        record: record of the run, which gets an entry for each stage.
        with_test: whether the test part is scored; if not, the record has no test metrics of a
            stage from the cache either.

    Raises:
        ValueError: settings of a stage are wrong, or its model exports nothing.
    """
    outputs: dict[str, StageOutput] = {}
    for planned in plan_stages(config, data_key):
        with record.stage(f"{planned.name} ({planned.model})") as stage:
            try:
                content = _read_output(planned, split.dataset)
            except (FileNotFoundError, ValueError):
                content = _read_or_train(planned, split, stage, with_test)
            else:
                _fill_from_cache(stage, planned, content, with_test)
            outputs[planned.name] = content["tensors"]
    return outputs


def _read_or_train(
    planned: PlannedStage, split: Split, stage: Stage, with_test: bool
) -> dict[str, Any]:
    """Train a stage, unless another run does: then wait and read its output."""
    log = logging.getLogger()

    def on_wait(holder: str) -> None:
        log.info("Stage %r: waiting for %s, which trains it", planned.name, holder)

    with only_writer(planned.folder, on_wait):
        try:
            content = _read_output(planned, split.dataset)
        except FileNotFoundError:
            return _train(planned, split, stage, with_test)
        except ValueError as error:
            log.warning("%s; training this stage again.", error)
            return _train(planned, split, stage, with_test)
        _fill_from_cache(stage, planned, content, with_test)
        return content


def _train(planned: PlannedStage, split: Split, stage: Stage, with_test: bool) -> dict[str, Any]:
    """Train a stage and return what its ``output.pth`` then holds."""
    log, (name, model, config, folder) = logging.getLogger(), planned
    log.info("stage %s (%s)", name, model)
    log.info("checkpoints in %s", folder, extra=FILE_ONLY)
    begin = time.monotonic()
    tensors = fit_stage(config, split, folder, stage, with_test)
    content = {
        "tensors": tensors,
        "trainable": stage.trainable,
        "parameters": stage.parameters,
        "seconds": time.monotonic() - begin,
        "metrics": json.dumps(stage.metrics),
    }
    check_tensors(tensors, split.dataset, f"stage {name!r} ({model}), trained in {folder}")
    save_checkpoint(planned.output, content)
    if is_main():
        (folder / "last.pth").unlink(missing_ok=True)  # nothing is left to resume
    return content


def _fill_from_cache(
    stage: Stage, planned: PlannedStage, content: Mapping[str, Any], with_test: bool
) -> None:
    """Fill in the record's entry of a stage that was finished before."""
    log = logging.getLogger()
    log.info("Stage %r: finished before, read from %s", planned.name, planned.folder)
    if not stage.trainable:  # else this run trained it, before it was resumed
        stage.cached_from_s = content["seconds"]
    stage.trainable, stage.parameters = content["trainable"], content["parameters"]
    stage.metrics = json.loads(content["metrics"])
    if not with_test:
        stage.metrics.pop("test", None)


def read_stages(
    config: Config, data_key: Mapping[str, Any], dataset: Dataset
) -> dict[str, StageOutput]:
    """Return what ``run_stages`` left in ``cache_dir``; nothing is trained.

    Raises:
        FileNotFoundError: a stage of these settings, data and code is missing.
        ValueError: the output of a stage is damaged, or does not fit the dataset.
    """
    outputs: dict[str, StageOutput] = {}
    for planned in plan_stages(config, data_key):
        try:
            outputs[planned.name] = _read_output(planned, dataset)["tensors"]
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"stage {planned.name!r} ({planned.model}) of {config['model']} is not in "
                f"{planned.folder}: another cache_dir, or the code has changed since. Run the "
                f"model again, which trains it."
            ) from error
    return outputs


def _read_output(planned: PlannedStage, dataset: Dataset) -> dict[str, Any]:
    """Return what a stage's ``output.pth`` holds.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or does not fit the dataset.
    """
    content = load_checkpoint(planned.output)
    check_fields(content, _FIELDS, planned.output)
    check_tensors(content["tensors"], dataset, f"stage output {planned.output}")
    return content


def check_tensors(tensors: StageOutput, dataset: Dataset, origin: str) -> None:
    """Check what a stage exports before another model is built from it.

    Args:
        tensors: tensors by name; ``user_embedding`` and ``item_embedding`` have a row an id.
        dataset: dataset of the run.
        origin: stage or file that the tensors come from, for the message.

    Raises:
        ValueError: a value is no tensor, holds NaN or infinity, or has another number of rows than
            the dataset.
    """
    n_rows = {"user_embedding": dataset.user_num, "item_embedding": dataset.item_num}
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{origin}: {name!r} is no tensor")
        if name in n_rows and (tensor.dim() != 2 or len(tensor) != n_rows[name]):
            raise ValueError(
                f"{origin}: {name!r} has shape {tuple(tensor.shape)}, expected {n_rows[name]} rows"
            )
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{origin}: {name!r} holds NaN or infinity")


def _cache_key(config: Config, data_key: Mapping[str, Any]) -> str:
    """Hash all that a stage depends on: settings, data, version, and the code that trains it."""
    settings = {k: v for k, v in config.to_dict().items() if k not in VOLATILE_KEYS}
    text = json.dumps([settings, data_key, __version__], sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for path in imported_files(config.model_class.__module__, _TRAINING):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
