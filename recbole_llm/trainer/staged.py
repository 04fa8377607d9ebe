"""Models that need other models trained first: each stage's output is cached and reused."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from recbole_llm.config import VOLATILE_KEYS, Config
from recbole_llm.record import RunRecord, Stage
from recbole_llm.registry import StageSpec
from recbole_llm.trainer.checkpoint import load_checkpoint, save_checkpoint
from recbole_llm.trainer.source import imported_files
from recbole_llm.trainer.trainer import build_trainer
from recbole_llm.version import __version__

StageOutput = dict[str, Tensor]


def run_stages(
    config: Config,
    data_key: Mapping[str, Any],
    record: RunRecord,
    train: Callable[[Config, Path, Stage], StageOutput],
) -> dict[str, StageOutput]:
    """Return the output of every stage that the model of ``config`` needs.

    A finished stage is read from ``cache_dir``; an unfinished one goes on from its last saved
    epoch. The cache key holds the stage's settings, the data and its split, and the code.

    Args:
        config: of the staged model, whose class has ``required_stages(config)``.
        data_key: fingerprint of the files and of the split.
        record: each stage is added to it.
        train: trains one stage in a folder, fills in its record, and returns its output.
    """
    outputs: dict[str, StageOutput] = {}
    for name, spec in config.model_class.required_stages(config).items():
        sub_config = config.stages[name]
        folder = _stage_folder(sub_config, spec, data_key)
        with record.stage(f"{name} ({spec.model})") as stage:
            output = _read_output(folder / "output.pth")
            if output is None:
                logging.getLogger().info("Stage %r: training %s in %s", name, spec.model, folder)
                begin = time.monotonic()
                tensors = train(sub_config, folder, stage)
                output = {
                    "tensors": tensors,
                    "trainable": stage.trainable,
                    "parameters": stage.parameters,
                    "seconds": time.monotonic() - begin,
                    "metrics": json.dumps(stage.metrics),
                }
                save_checkpoint(folder / "output.pth", output)
                (folder / "last.pth").unlink(missing_ok=True)  # nothing is left to resume
            else:
                logging.getLogger().info("Stage %r: finished before, read from %s", name, folder)
                if not stage.trainable:  # else this run trained it, before it was resumed
                    stage.cached_from_s = output["seconds"]
                stage.trainable, stage.parameters = output["trainable"], output["parameters"]
                stage.metrics = json.loads(output["metrics"])
            outputs[name] = output["tensors"]
    return outputs


def read_stages(config: Config, data_key: Mapping[str, Any]) -> dict[str, StageOutput]:
    """Return what ``run_stages`` left in ``cache_dir``; nothing is trained.

    Raises:
        FileNotFoundError: a stage of these settings, data and code is not there.
    """
    outputs: dict[str, StageOutput] = {}
    for name, spec in config.model_class.required_stages(config).items():
        folder = _stage_folder(config.stages[name], spec, data_key)
        output = _read_output(folder / "output.pth")
        if output is None:
            raise FileNotFoundError(
                f"stage {name!r} ({spec.model}) of {config['model']} is not in {folder}: another "
                f"cache_dir, or the code has changed since. Run the model again, which trains it."
            )
        outputs[name] = output["tensors"]
    return outputs


def _stage_folder(config: Config, spec: StageSpec, data_key: Mapping[str, Any]) -> Path:
    """Return the folder of a stage with settings ``config``; its name holds the cache key."""
    key = _cache_key(config, data_key)
    return Path(config["cache_dir"]) / "stages" / f"{spec.model}-{config['dataset']}-{key}"


def _read_output(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        return load_checkpoint(path)
    except ValueError as error:
        logging.getLogger().warning("%s; training this stage again.", error)
        return None


def _cache_key(config: Config, data_key: Mapping[str, Any]) -> str:
    settings = {k: v for k, v in config.to_dict().items() if k not in VOLATILE_KEYS}
    text = json.dumps([settings, data_key, __version__], sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for path in imported_files(config.model_class.__module__, build_trainer.__module__):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
