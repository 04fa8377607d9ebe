"""Item features from files, text and attributes, aligned to RecBole's item ids by item token.

A modality's spec is one of ``ACCEPTED_FORMS``; ``modality_sources`` has the function of each form.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llm.data.items import Items
from recbole_llm.data.modality_sources import SOURCES, Feature

ACCEPTED_FORMS = (
    "features.npy",
    "{file: features.npy}",
    "{text: [column, ...], encoder: all-minilm-l6-v2}",
    "{multi_hot: column}",
    "{tfidf: column}",
)
DEFAULT_ENCODER = "all-minilm-l6-v2"


def load_modality(name: str, spec: object, items: Items) -> Feature:
    """Build one modality from its spec.

    Returns:
        (n_items, d) float32, row 0 zero, zero rows for items without a feature.

    Raises:
        FileNotFoundError: a file that the spec needs does not exist.
        ValueError: the spec or a file is malformed; the message names the modality.
    """
    parts = _parse(name, spec, items)
    build = SOURCES[next(iter(parts))]
    try:
        return build(parts, items)
    except (FileNotFoundError, ValueError) as error:
        error_type = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise error_type(f"{_subject(name, items)}: {error}") from error


def modality_files(name: str, spec: object, items: Items) -> list[Path]:
    """Return the files that a modality reads, whether they exist or not."""
    parts = _parse(name, spec, items)
    if "file" not in parts:
        return [items.item_file]
    return [
        items.folder / parts["file"],
        items.ids_file if items.ids_file.is_file() else items.item_file,
    ]


def fill_missing(name: str, feature: Feature, items: Items) -> int:
    """Apply ``missing_modality`` (zero, mean or error) to the zero rows of ``feature``, in place.

    Returns:
        The number of items without a feature, padding not counted.

    Raises:
        ValueError: the policy is ``error`` and an item has no feature; or no item at all has a
            feature, which means that the tokens do not match.
    """
    policy = items.config["missing_modality"]
    missing = np.flatnonzero(~feature[1:].any(axis=1)) + 1
    if not missing.size:
        return 0
    n_items = len(feature) - 1
    first = ", ".join(repr(str(items.tokens[i])) for i in missing[:5])
    if missing.size == n_items:
        raise ValueError(
            f"{_subject(name, items)}: none of the {n_items} items has a feature (first: {first}). "
            f"Do the item tokens of the feature's file match those of the interactions?"
        )
    if policy == "error":
        raise ValueError(
            f"{_subject(name, items)}: {missing.size} of {n_items} items have no feature "
            f"(first: {first}). Add them, or choose missing_modality=zero or =mean."
        )
    logging.getLogger().warning(
        "%s: %d of %d items (%.3g %%) have no feature, they get %s (missing_modality: %s).",
        _subject(name, items),
        missing.size,
        n_items,
        100 * missing.size / n_items,
        "zeros" if policy == "zero" else "the mean of the others",
        policy,
    )
    if policy == "mean":  # missing rows are zero and add nothing to the sum
        total = feature[1:].sum(axis=0, dtype=np.float64)
        feature[missing] = total / (n_items - missing.size)
    return int(missing.size)


def scale(name: str, feature: Feature, items: Items) -> None:
    """Apply ``modality_scaling`` to the items that have a feature, in place; zero rows stay zero.

    ``none`` leaves features as they are, ``l2`` brings each item's to length 1, ``standard`` each
    column to mean 0 and standard deviation 1 over the items. Features with a large common part (all
    columns positive, for example) make all items similar to each other; ``standard`` removes it.
    """
    scaling = items.config["modality_scaling"]
    if scaling == "none":
        return
    present = feature.any(axis=1)
    rows = feature[present]
    if scaling == "l2":
        norm = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        feature[present] = rows / norm
        return
    mean = rows.mean(axis=0, dtype=np.float64)
    deviation = rows.std(axis=0, dtype=np.float64)
    # a constant column carries no information: it becomes zero
    deviation[deviation <= 1e-6 * np.abs(mean)] = np.inf
    feature[present] = (rows - mean) / deviation


def _subject(name: str, items: Items) -> str:
    return f"modality {name!r} of dataset {items.config['dataset']!r}"


def _parse(name: str, spec: object, items: Items) -> Mapping[str, Any]:
    """Return the spec as a mapping whose first key says the form."""
    parts = {"file": spec} if isinstance(spec, str) else spec
    if isinstance(parts, Mapping):
        if set(parts) == {"text"} or set(parts) == {"text", "encoder"}:
            columns = parts["text"]
            columns = [columns] if isinstance(columns, str) else columns
            if columns and isinstance(columns, Sequence):
                return {"text": list(columns), "encoder": parts.get("encoder", DEFAULT_ENCODER)}
        elif len(parts) == 1 and set(parts) <= set(SOURCES):
            if all(isinstance(value, str) and value for value in parts.values()):
                return parts
    raise ValueError(
        f"{_subject(name, items)}: cannot read the spec {spec!r}. "
        f"Accepted forms: {'; '.join(ACCEPTED_FORMS)}."
    )
