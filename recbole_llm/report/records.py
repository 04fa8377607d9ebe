"""The run records that a report reads, and the copies of them that it keeps."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from recbole_llm.files import replacing
from recbole_llm.record import RunRecord
from recbole_llm.report.record_form import check_record
from recbole_llm.runs.rankings import publish_rankings

_LONGEST = 400  # characters of a note on a file that is not a record


class Run(NamedTuple):
    """A record and the file that it was read from."""

    record: RunRecord
    path: Path

    @property
    def leaky(self) -> bool:
        """Whether the run's user profiles were written from held-out interactions."""
        profiles = self.record.data.get("user_profiles", {})
        return any(profile["leaky"] for profile in profiles.values())

    @property
    def has_image_words(self) -> bool:
        """Whether class names stood in for the images' descriptions in the run's profiles."""
        profiles = self.record.data.get("user_profiles", {})
        return any(profile.get("image_words", False) for profile in profiles.values())


def read_runs(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Read every record of ``<folder>/<run>/record.json`` and ``<folder>/<run>.json``.

    Returns:
        The finished runs, each id once, from the first folder that has it; and a note for each
        file that cannot be read, is not a record, or has an id that could lead to another folder.
    """
    runs: dict[str, Run] = {}
    notes = []
    for folder in folders:
        for path in sorted([*folder.glob("*/record.json"), *folder.glob("*.json")]):
            try:
                record = _read(path)
            except (ValueError, OSError) as error:
                text = str(error)
                notes.append(f"not read: {text if len(text) <= _LONGEST else text[:_LONGEST]}")
                continue
            if record.status == "finished":
                runs.setdefault(record.id, Run(record, path))
    return list(runs.values()), notes


def _read(path: Path) -> RunRecord:
    """Read a record, and check what a report reads of it if the run is finished."""
    record = RunRecord.load(path)
    if record.status == "finished":
        try:
            check_record(record)
        except ValueError as error:
            raise ValueError(f"{path} is not a run record: {error}") from error
    return record


def keep_records(used: Iterable[Run], folder: Path) -> list[str]:
    """Copy the records of a report's runs into its folder; no record there is removed or replaced.

    A number of the report can then be traced wherever the folder goes, and verified: the lists of
    a run are copied next to its record.

    Args:
        used: the runs that the report shows.
        folder: the report's folder of records, made if it does not exist.

    Returns:
        Notes on kept records that differ from the runs that are shown, and on those not shown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    notes, shown = [], set()
    for run in used:
        shown.add(run.record.id)
        path = folder / f"{run.record.id}.json"
        if not path.exists():
            with replacing(path) as file:
                file.write(f"{json.dumps(run.record.shared(), indent=1)}\n".encode())
            if topk := run.record.config.get("topk"):
                publish_rankings(run.path, path, max(topk))
        elif not _is_same(run.record, path):
            notes.append(
                f"records/{path.name} was not replaced: it differs from the run of the same id "
                f"whose numbers are shown."
            )
    hidden = {path.stem for path in folder.glob("*.json")} - shown
    if hidden:
        notes.append(
            f"This report shows {len(shown)} runs; {len(hidden)} more in records/ have another "
            f"profile, other settings, or a newer run in their cell."
        )
    return notes


def _is_same(record: RunRecord, path: Path) -> bool:
    try:
        return RunRecord.load(path).shared() == record.shared()
    except ValueError:  # damaged
        return False
