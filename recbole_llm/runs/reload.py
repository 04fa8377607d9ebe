"""Finished runs brought back: the same settings, data, split and weights."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from recbole_llm.config import VOLATILE_KEYS, Config
from recbole_llm.data.loading import Split, load_split
from recbole_llm.record import RunRecord, describe_data
from recbole_llm.trainer.checkpoint import load_checkpoint
from recbole_llm.trainer.staged import read_stages


class LoadedRun(NamedTuple):
    """A finished run; the model is in evaluation mode, with the weights that validation chose."""

    record: RunRecord
    config: Config
    split: Split
    model: nn.Module


def load_run(run: str | Path, data_path: str | None = None) -> LoadedRun:
    """Bring a finished run back.

    Args:
        run: a run's folder, or its ``record.json``.
        data_path: parent of the data set's folder, if it is not where the run found it.

    Raises:
        FileNotFoundError: the record, the checkpoint, a stage's output or the data is missing.
        ValueError: the run did not finish, or its data has changed.
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
    if data["split"] != record.data["split"]:
        raise ValueError(
            f"run {record.id}: the data, or its split, is no longer that of the run. Give its "
            f"data with --data_path."
        )
    stages: tuple[Any, ...] = ()
    if hasattr(config.model_class, "required_stages"):
        stages = (read_stages(config, {name: data[name] for name in ("files", "split")}),)
    model = config.model_class(config, split.train, *stages).to(config["device"])
    state = load_checkpoint(checkpoint, config["device"])
    model.load_state_dict(state["state_dict"])
    model.load_other_parameter(state["other_parameter"])
    model.eval()
    return LoadedRun(record, config, split, model)


def config_of(record: RunRecord, data_path: str | None = None) -> Config:
    """Build a run's settings again.

    Raises:
        ValueError: they do not come out the same, as after a change of the program.
    """
    probe = Config(record.model, record.dataset)
    settings = settings_of(record, probe.internal_config_dict, data_path)
    settings.pop("MODEL_TYPE", None)  # an enum, which the record has as text; the model's own
    # One of the two says how to split; where the files are split already, neither may.
    settings.pop("protocol" if record.protocol == "custom" else "eval_args", None)
    if record.protocol == "fixed":
        settings.pop("protocol", None)
    if record.config.get("split"):
        settings.pop("eval_args", None)
    if (settings.get("train_neg_sample_args") or {}).get("distribution") == "none":
        settings["train_neg_sample_args"] = None  # RecBole refuses what it resolves None to
    settings["show_progress"] = False
    if "cache_dir" in record.config:
        settings["cache_dir"] = record.config["cache_dir"]
    config = Config(record.model, record.dataset, overrides=settings)
    found, wanted = config.to_dict(), record.config
    differ = sorted(
        key
        for key in (set(found) | set(wanted)) - VOLATILE_KEYS
        if json.dumps(found.get(key)) != json.dumps(wanted.get(key))
    )
    if differ:
        raise ValueError(
            f"run {record.id}: the settings cannot be built again, these differ: "
            f"{', '.join(differ[:5])}. Was it made by another version?"
        )
    return config


def settings_of(
    record: RunRecord, keys: Collection[str], data_path: str | None = None
) -> dict[str, Any]:
    """Return the settings of a run that have one of these keys, with data and split where they are.

    Args:
        record: of the run.
        keys: the settings wanted, of which ``VOLATILE_KEYS`` are left out.
        data_path: parent of the data set's folder, if it is not where the run found it.

    Raises:
        ValueError: nothing says where the data is.
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
