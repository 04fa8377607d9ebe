"""A finished run as a folder for other programs: embeddings, weights, settings, a model card."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save_file

from recbole_llm.config import Config
from recbole_llm.files import replacing_folder, write_ids
from recbole_llm.model.base import hooks_of
from recbole_llm.record import RunRecord
from recbole_llm.runs.embeddings import Embeddings, embeddings_of
from recbole_llm.runs.loaded import LoadedRun
from recbole_llm.runs.model_card import model_card
from recbole_llm.runs.reload import overrides_of
from recbole_llm.settings.fingerprint import fingerprint_of
from recbole_llm.settings.resolve import plain

#: Forms of the embeddings' files.
FORMATS = ("npy", "safetensors")


def export_run(loaded: LoadedRun, folder: Path, form: str = "npy") -> dict[str, str]:
    """Write a run's embeddings, score head, adapter, settings, record and model card.

    The folder appears whole or not at all. What the model does not have is left out.

    Args:
        loaded: finished run.
        folder: folder to write; it must not exist, or be empty.
        form: one of ``FORMATS``, for the embeddings.

    Returns:
        What each file or folder holds, by its name.

    Raises:
        ValueError: ``form`` is unknown, or the run's settings cannot be written so that they give
            the same run again.
        FileExistsError: the folder holds something.
    """
    if form not in FORMATS:
        raise ValueError(f"--format must be one of {', '.join(FORMATS)}, got {form!r}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not empty; name another folder by --to.")
    settings = minimal_settings(loaded.record, loaded.config)
    with replacing_folder(folder) as target:
        contents = _write_embeddings(loaded, target, form)
        contents |= _write_weights(loaded, target)
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        (target / "settings.yaml").write_text(text, encoding="utf-8")
        contents["settings.yaml"] = "settings: `run_recbole --config_files=settings.yaml`"
        record = json.dumps(loaded.record.shared(), indent=1)
        (target / "record.json").write_text(record, encoding="utf-8")
        contents["record.json"] = "record of the run: settings, data, metrics, costs, versions"
        card = model_card(loaded, contents)
        (target / "README.md").write_text(card, encoding="utf-8")
    return contents | {"README.md": "model card"}


def minimal_settings(record: RunRecord, config: Config) -> dict[str, Any]:
    """Return model, dataset and the settings of a run that are not the defaults, as YAML holds.

    Raises:
        ValueError: they do not give the settings of the run again.
    """
    names = {"model": record.model, "dataset": record.dataset}
    place = str(Path(config["data_path"]).parent)
    overrides = overrides_of(record, place)
    overrides.pop("data_path")
    if record.config.get("split"):
        overrides["split"] = record.config["split"]
    defaults = Config(record.model, record.dataset, overrides={"data_path": place}).to_dict()
    own = {
        key: plain(value)
        for key, value in overrides.items()
        if key not in defaults or json.dumps(plain(value)) != json.dumps(defaults[key])
    }
    for settings in (own, {key: plain(value) for key, value in overrides.items()}):
        if _gives_again(record, settings, place):
            return {**names, **settings}
    raise ValueError(f"run {record.id}: its settings cannot be written as YAML that runs again.")


def _gives_again(record: RunRecord, settings: Mapping[str, Any], data_path: str) -> bool:
    again = Config(
        record.model, record.dataset, overrides={**settings, "data_path": data_path}
    ).to_dict()
    return fingerprint_of(again) == record.config_hash


def _write_embeddings(loaded: LoadedRun, target: Path, form: str) -> dict[str, str]:
    """Write the embeddings of users and items, if the scores are their inner products."""
    try:
        sides = dict(zip(("user", "item"), embeddings_of(loaded), strict=True))
    except ValueError:
        return {}
    contents = {}
    for side, embeddings in sides.items():
        name = f"{side}_embeddings.{form}"
        _write_array(target / name, embeddings, form)
        write_ids(target / f"{side}_ids.txt", embeddings.tokens)
        shape = " x ".join(map(str, embeddings.values.shape))
        contents[name] = f"embeddings, {shape} float32; a score is the product of two rows"
        contents[f"{side}_ids.txt"] = f"the {side} id of each row"
    return contents


def _write_array(path: Path, embeddings: Embeddings, form: str) -> None:
    values = np.ascontiguousarray(embeddings.values)
    if form == "npy":
        np.save(path, values)
    else:
        save_file({"embeddings": values}, path)


def _write_weights(loaded: LoadedRun, target: Path) -> dict[str, str]:
    """Copy the adapter and write the score head, of a language model."""
    contents = {}
    adapter = Path(loaded.record.files.get("adapter", ""))
    if loaded.record.files.get("adapter") and adapter.is_dir():
        shutil.copytree(adapter, target / "adapter")
        contents["adapter/"] = "LoRA weights as PEFT reads them"
    head = hooks_of(loaded.model).head_weights()
    if head:
        arrays = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in head.items()}
        save_file(arrays, target / "score_head.safetensors")
        shapes = ", ".join(f"{name} {tuple(array.shape)}" for name, array in arrays.items())
        contents["score_head.safetensors"] = f"score head: {shapes}"
        if "item_ids.txt" not in contents:
            dataset = loaded.split.dataset
            tokens = dataset.field2id_token[dataset.iid_field].astype(str)
            write_ids(target / "score_head_ids.txt", tokens)
            contents["score_head_ids.txt"] = "the item id of each row; the first is padding"
    return contents
