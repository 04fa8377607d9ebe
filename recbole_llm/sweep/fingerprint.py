"""What the results of a row depend on: resolved settings, the search, and the dataset's files."""

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole.utils import ModelType

from recbole_llm.config import Config
from recbole_llm.data.atomic import check_inter_files, inter_files
from recbole_llm.data.items import Items
from recbole_llm.data.modality import modality_files
from recbole_llm.files import sha256_of
from recbole_llm.settings.fingerprint import VOLATILE_KEYS
from recbole_llm.sweep.identity import Identity
from recbole_llm.sweep.settings import resolve_settings
from recbole_llm.sweep.spec import Row, Spec

#: Keys of ``search`` that only say how much of it is done.
_BUDGET = {"n_trials", "timeout_s", "max_retry"}


def study_identity(spec: Spec, row: Row, dataset: str, overrides: Mapping[str, Any]) -> Identity:
    """Return all that the trials of a row on a dataset depend on, except the budget.

    ``settings`` are those that a number can depend on, config files and defaults resolved; ``data``
    has the sha256 of each file that the dataset is read from.

    Raises:
        ValueError: a setting is wrong, or an interaction file lacks a column.
        FileNotFoundError: the dataset has no interaction file.
    """
    config = resolve_settings(spec, row, dataset, {}, overrides)
    check_inter_files(config)
    ignored = VOLATILE_KEYS | {"seed"}  # every final run has its own
    settings = {k: v for k, v in config.to_dict().items() if k not in ignored}
    folder = Path(config["data_path"])
    data = {os.path.relpath(path, folder): _sha256(path) for path in data_files(config)}
    content = {"settings": settings, "search": _search(spec, row), "data": data}
    return dict(json.loads(json.dumps(content)))


def _search(spec: Spec, row: Row) -> dict[str, Any]:
    """Return what the trials of a row are drawn by; empty for a row that is not tuned."""
    if spec.search is None or not row.space:
        return {}
    return {
        **spec.search.model_dump(exclude=_BUDGET),
        **{f"space.{parameter.name}": parameter for parameter in row.space},
        "order": [parameter.name for parameter in row.space],  # in which a sampler draws them
        "seed of trials": spec.seeds[0],
    }


def data_files(config: Config) -> list[Path]:
    """Return the files of a run's dataset: interactions, users, items, features and profiles."""
    folder, name = Path(config["data_path"]), config["dataset"]
    knowledge = ["kg", "link"] if config["MODEL_TYPE"] == ModelType.KNOWLEDGE else []
    suffixes = ["user", "item", *knowledge, *(config["additional_feat_suffix"] or [])]
    files = inter_files(config) + [folder / f"{name}.{suffix}" for suffix in suffixes]
    for modality, form in (config["modalities"] or {}).items():
        files += modality_files(modality, form, Items(config, []))
    if config["user_profile"] not in (None, "mean", "random"):
        files += sorted(Path(config["user_profile"]).glob("user_profile_*"))
    return [path for path in dict.fromkeys(files) if path.is_file()]


def _sha256(path: Path) -> str:
    state = path.stat()
    return _cached_sha256(path.resolve(), state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _cached_sha256(path: Path, size: int, mtime_ns: int) -> str:
    """Return a file's sha256, computed once for all rows of a sweep."""
    return sha256_of(path)
