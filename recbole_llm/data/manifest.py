"""The manifest of a prepared dataset: the checksums of its files, compared with what is read."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

#: File in a dataset's folder that ``recbole_llm prepare`` writes.
MANIFEST = "manifest.json"


def check_prepared(folder: Path, checksums: Mapping[Path, str]) -> None:
    """Compare the files of a dataset with those that ``recbole_llm prepare`` wrote.

    Files that the manifest does not name are the user's own, and so is a folder without a manifest.
    A feature file that ``recbole_llm encode`` wrote in place of a prepared one is described by its
    own manifest next to it.

    Args:
        folder: folder of the dataset.
        checksums: sha256 of each file that is read.

    Raises:
        ValueError: a file is not the one that was prepared, or the manifest is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return
    prepared = _read(path)
    for file, digest in checksums.items():
        expected = prepared.get(file.name) if file.parent == folder else None
        if expected is not None and digest not in (expected, _encoded(file)):
            raise ValueError(
                f"{file} was changed since `recbole_llm prepare` wrote it: its sha256 is not the "
                f"one in {path}. Restore the file or prepare the dataset again with --overwrite; "
                f"if the change is yours, delete {MANIFEST}, and the folder counts as your own."
            )


def _read(path: Path) -> dict[str, Any]:
    """Return the checksums that a manifest holds, by file name."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        prepared = content["files"] if "source" in content else {}
        return dict(prepared)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}), so nothing says whether the dataset is as it was "
            f"prepared. Prepare it again with --overwrite, or delete {MANIFEST}."
        ) from error


def _encoded(file: Path) -> str | None:
    """Return the sha256 that the manifest of ``recbole_llm encode`` has of a feature file."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["sha256"])
    return None
