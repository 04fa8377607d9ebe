"""What a record says of a dataset: its fingerprint, its size, and what a model read of it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from recbole.data.dataset.dataset import Dataset

from recbole_llm.data.dataset import MultimodalDataset


def describe_data(dataset: Dataset, parts: Sequence[Dataset]) -> dict[str, Any]:
    """Return the fingerprint of a dataset and its split, its size, and how many rows it left out.

    A class of RecBole's own names no files, so that its split alone is checked.

    Args:
        dataset: the whole dataset, before the split.
        parts: training, validation and test part.
    """
    files: dict[Path, str] = {}
    frozen = None
    left_out: dict[str, dict[str, int]] = {}
    if isinstance(dataset, MultimodalDataset):
        files, frozen = dataset.checksums(), dataset.frozen
        left_out = {
            "left_out": dict(dataset.left_out),
            "repeated_rows": dict(dataset.repeated_rows),
        }
    split = hashlib.sha256()
    for field in (dataset.uid_field, dataset.iid_field):
        split.update("\n".join(map(str, dataset.field2id_token[field])).encode())
    for part in parts:
        for field in (dataset.uid_field, dataset.iid_field):
            split.update(np.ascontiguousarray(part.inter_feat[field].numpy()).tobytes())
        split.update(b"|")
    return {
        "files": {path.name: digest for path, digest in files.items()},
        "split": split.hexdigest(),
        "n_users": dataset.user_num - 1,
        "n_items": dataset.item_num - 1,
        "n_interactions": [len(part) for part in parts],
        **left_out,
        **({"frozen_split": frozen.describe()} if frozen else {}),
    }


def describe_inputs(dataset: Dataset) -> dict[str, Any]:
    """Return what else a model asked of its dataset: modalities and user profiles, by name.

    A model that uses none has none here, nor has a dataset class of RecBole's own.
    """
    if not isinstance(dataset, MultimodalDataset):
        return {"modalities": {}, "user_profiles": {}}
    modalities = {}
    for name in dataset.loaded_modalities:
        n_missing = dataset.missing_items(name)
        modalities[name] = {
            "dim": dataset.modality(name).size(1),
            "missing_items": n_missing,
            "missing_rate": n_missing / (dataset.item_num - 1),
            "policy": dataset.config["missing_modality"],
        }
    profiles = {
        folder: {
            "sha256": profile.sha256,
            "missing_users": profile.n_missing,
            "leaky": profile.is_leaky,
            "image_words": profile.has_image_words,
        }
        for folder, profile in dataset.profile_sets.items()
    }
    return {"modalities": modalities, "user_profiles": profiles}
