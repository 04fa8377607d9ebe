"""What a profile set is made from: the name of its folder, and the head of its report."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from recbole_llm.data.profile import MARK
from recbole_llm.profiles.answer import Backend
from recbole_llm.profiles.output import default_folder
from recbole_llm.profiles.settings import ReasonSettings
from recbole_llm.profiles.store import FILE_NAME

if TYPE_CHECKING:
    from recbole_llm.config import Config

_PACKAGES = ("recbole-llm", "transformers", "torch", "openai", "sentence-transformers")
_IDENTITY = (
    "backend model_name image_model revision dtype temperature top_p max_new_tokens "
    "max_words max_history max_item_tokens overlong tokenizer leaky"
).split()


def output_folder(settings: ReasonSettings, config: Config, made_from: Mapping[str, Any]) -> Path:
    """Return the folder of a profile set: the setting's, else one named after its inputs.

    Args:
        settings: settings of the pipeline.
        config: settings of the data.
        made_from: the split's fingerprint, text columns, profile prompt and image prompt.
    """
    if settings.output is not None:
        return Path(settings.output)
    identity = {
        "dataset": config["dataset"],
        "split": made_from["split"],
        "columns": made_from["text_columns"],
        "prompts": [made_from["profile_prompt"], made_from["image_prompt"]],
        **{name: getattr(settings, name) for name in _IDENTITY},
        # Only where set, so that sets without keep the names of their folders.
        **({"image_words": True} if settings.image_words else {}),
    }
    return default_folder(Path(config["data_path"]), identity, settings.leaky)


def describe_set(
    settings: ReasonSettings,
    config: Config,
    made_from: Mapping[str, Any],
    given: Mapping[str, Any],
    backends: Mapping[str, Backend | None],
) -> dict[str, Any]:
    """Return the head of ``report.json``: data, split, settings, prompts, models and versions.

    Args:
        settings: settings of the pipeline.
        config: settings of the data.
        made_from: the split's fingerprint, text columns, profile prompt and image prompt.
        given: settings of the data as the user gave them, so that an audit can split again.
        backends: back ends in use, by their name in the report.
    """
    versions = {}
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "leaky": settings.leaky,
        "mark": MARK if settings.leaky else None,
        "dataset": config["dataset"],
        "protocol": config["protocol"],
        "seed": config["seed"],
        **made_from,
        "given": dict(given),
        "settings": settings.to_dict(),
        "store": str((Path(config["cache_dir"]) / FILE_NAME).absolute()),
        "versions": versions,
        "threads": torch.get_num_threads(),
        **{name: backend.identity for name, backend in backends.items() if backend is not None},
    }
