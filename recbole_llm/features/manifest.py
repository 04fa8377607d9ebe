"""The manifest of a feature file: what the file was made from, and its checksum.

``<modality>_feat.json`` holds settings, the encoder and its version, counts of items without a
feature with reasons, versions of packages, and sha256 sums of inputs and feature file.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_llm.features.inputs import Inputs
from recbole_llm.features.partial import difference
from recbole_llm.files import replacing, sha256_of

_PACKAGES = {
    "text": ("recbole-llm", "numpy", "torch", "transformers", "sentence-transformers"),
    "image": ("recbole-llm", "numpy", "torch", "transformers", "pillow"),
}
_ADVICE = "Give --overwrite to replace it, or --output=FILE.npy for another file."


def manifest_path(feature_file: Path) -> Path:
    """Return the path of a feature file's manifest."""
    return feature_file.with_suffix(".json")


def read_manifest(feature_file: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the manifest of a finished feature file; None if the file does not exist.

    Args:
        feature_file: path of the file.
        identity: JSON values that the manifest must contain: all that the file's numbers depend on.

    Raises:
        ValueError: the manifest is missing or damaged, has other values, or describes another file.
    """
    if not feature_file.is_file():
        return None
    path = manifest_path(feature_file)
    try:
        manifest = dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ValueError(
            f"{feature_file} exists without {path.name}, so it is unknown what it was made from. "
            f"{_ADVICE}"
        ) from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}. {_ADVICE}") from error
    found = {name: manifest.get(name) for name in identity}
    if found != identity:
        raise ValueError(
            f"{feature_file} was made with other settings or inputs "
            f"({difference(found, identity)}). {_ADVICE}"
        )
    if manifest.get("sha256") != sha256_of(feature_file):
        raise ValueError(f"{feature_file} is not the file that {path.name} describes. {_ADVICE}")
    return manifest


def build_manifest(
    feature_file: Path,
    digest: str,
    identity: Mapping[str, Any],
    item_tokens: Sequence[str],
    inputs: Inputs,
    failed: Mapping[int, str],
    interaction_items: set[str],
) -> dict[str, Any]:
    """Return the manifest of a new feature file.

    Args:
        feature_file: path that the file will have.
        digest: sha256 of its bytes.
        identity: JSON values that its numbers depend on; has ``modality``.
        item_tokens: item of each row.
        inputs: what was encoded.
        failed: reason by row, of the rows whose input could not be fetched or encoded.
        interaction_items: tokens of the items that occur in interactions.
    """
    without = {
        item_tokens[row]: reason for row, reason in sorted({**inputs.missing, **failed}.items())
    }
    return {
        "file": feature_file.name,
        "sha256": digest,
        **identity,
        "items": len(item_tokens),
        "encoded": len(item_tokens) - len(without),
        "distinct_inputs": len(inputs.units),
        "missing": _counts(inputs.missing),
        "failed": _counts(failed),
        "interaction_items_without_row": len(interaction_items - set(item_tokens)),
        "items_without_feature": without,
        "versions": {
            name: importlib.metadata.version(name) for name in _PACKAGES[identity["modality"]]
        },
    }


def write_manifest(feature_file: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of a feature file, whole or not at all."""
    with replacing(manifest_path(feature_file)) as file:
        file.write((json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())


def _counts(reasons: Mapping[int, str]) -> dict[str, int]:
    """Return the number of rows of each reason; details after a colon are dropped."""
    return dict(sorted(Counter(text.partition(":")[0] for text in reasons.values()).items()))
