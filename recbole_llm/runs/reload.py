"""Finished runs brought back: the same settings, data, split and weights."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from recbole_llm.config import Config
from recbole_llm.data.describe import describe_data
from recbole_llm.data.loading import Split, load_split
from recbole_llm.record import RunRecord, version_of
from recbole_llm.settings.fingerprint import VOLATILE_KEYS
from recbole_llm.trainer.checkpoint import load_weights
from recbole_llm.trainer.fit import build_model
from recbole_llm.trainer.staged import read_stages
from recbole_llm.version import __version__


class ReloadedRun(NamedTuple):
    """A finished run; the model is in evaluation mode, with the weights that validation chose."""

    record: RunRecord
    config: Config
    split: Split
    model: nn.Module


def load_run(run: str | Path, data_path: str | None = None) -> ReloadedRun:
    """Load a finished run: its record, its settings, its data and its model.

    Args:
        run: a run's folder, or its ``record.json``.
        data_path: parent of the dataset's folder, if it is not where the run found it.

    Raises:
        FileNotFoundError: the record, the checkpoint, a stage's output or the data is missing.
        ValueError: the run did not finish, its data has changed, or this version cannot build its
            settings or its model again; the text then says which version made it.
    """
    record = RunRecord.load(run)
    if record.status != "finished":
        raise ValueError(f"run {record.id} is {record.status}; only a finished run can be loaded.")
    config = config_of(record, data_path)
    checkpoint = Path(record.files.get("checkpoint", ""))
    if not checkpoint.is_file():
        raise FileNotFoundError(
            f"run {record.id}: its checkpoint {str(checkpoint)!r} is not there, seen from "
            f"{Path.cwd()}. Go to the folder that the run was started in, or run it again."
        )
    split = load_split(config)
    data = describe_data(split.dataset, split[1:])
    if data["split"] != record.data.get("split"):
        raise ValueError(
            f"run {record.id}: the data, or its split, is no longer that of the run. Give its "
            f"data with --data_path."
        )
    data_key = {name: data[name] for name in ("files", "split")}
    outputs = read_stages(config, data_key, split.dataset)
    model = build_model(config, split.train, outputs)
    load_weights(model, checkpoint, config["device"])
    return ReloadedRun(record, config, split, model.eval())


def config_of(record: RunRecord, data_path: str | None = None) -> Config:
    """Build a run's settings again.

    A setting that the record lacks is younger than the run and takes its default.

    Raises:
        ValueError: a setting of the record has another value now, or none, as after a change of
            the program; the text says which version made the run.
    """
    settings = overrides_of(record, data_path)
    settings["show_progress"] = False
    if "cache_dir" in record.config:
        settings["cache_dir"] = record.config["cache_dir"]
    config = Config(record.model, record.dataset, overrides=settings)
    found, expected = config.to_dict(), record.config
    changed = sorted(
        key
        for key in set(expected) - VOLATILE_KEYS
        if key not in found or json.dumps(found[key]) != json.dumps(expected[key])
    )
    if changed:
        raise ValueError(
            f"run {record.id}: the settings cannot be built again, these differ: "
            f"{', '.join(changed[:5])}. It was made by recbole-llm {version_of(record)}; this is "
            f"{__version__}."
        )
    return config


def overrides_of(record: RunRecord, data_path: str | None = None) -> dict[str, Any]:
    """Return the settings from which ``Config`` resolves those of a run again.

    Args:
        record: record of the run.
        data_path: parent of the dataset's folder, if it is not where the run found it.

    Raises:
        ValueError: neither the record nor ``data_path`` says where the data is.
    """
    defaults = Config(record.model, record.dataset).internal_config_dict
    settings = settings_of(record, defaults, data_path)
    settings.pop("MODEL_TYPE", None)  # an enum, which the record has as text; the model's own
    # One of the two says how to split; where the files are split already, neither may.
    settings.pop("protocol" if record.protocol == "custom" else "eval_args", None)
    if record.protocol == "fixed":
        settings.pop("protocol", None)
    if record.config.get("split"):
        settings.pop("eval_args", None)
    if (settings.get("train_neg_sample_args") or {}).get("distribution") == "none":
        settings["train_neg_sample_args"] = None  # RecBole refuses what it resolves None to
    return settings


def settings_of(
    record: RunRecord, keys: Collection[str], data_path: str | None = None
) -> dict[str, Any]:
    """Return the settings of a run that have one of these keys, with the places of its data.

    Args:
        record: record of the run.
        keys: names of settings; ``VOLATILE_KEYS`` are left out.
        data_path: parent of the dataset's folder, if it is not where the run found it.

    Raises:
        ValueError: neither the record nor ``data_path`` says where the data is.
    """
    if data_path is None and "data_path" not in record.config:
        raise ValueError(
            f"run {record.id}: its record comes from another machine; give the data's --data_path."
        )
    settings = {k: v for k, v in record.config.items() if k in keys and k not in VOLATILE_KEYS}
    settings["data_path"] = data_path or str(Path(record.config["data_path"]).parent)
    if record.config.get("split"):
        settings["split"] = record.config["split" if data_path else "split_dir"]
    return settings
