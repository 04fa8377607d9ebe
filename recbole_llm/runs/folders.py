"""The runs of a folder: listed, sorted, and the unfinished ones removed."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from recbole_llm.locks import FolderBusyError, only_writer
from recbole_llm.record import RunRecord

_RUN_ID = re.compile(r"\d{8}-\d{6}-\d{3}-[\w.-]+-[0-9a-f]{8}")

#: Ways in which a run ends without a result.
UNFINISHED = ("running", "failed", "interrupted", "stopped")


class RunFolder(NamedTuple):
    """A run and what it takes on the disk.

    Attributes:
        record: record of the run; None where it cannot be read.
        folder: the run's folder.
        paths: files and folders of the run outside of it: checkpoints, adapter, log.
        n_bytes: size of all of them.
        fault: why the record cannot be read; "" where it can.
    """

    record: RunRecord | None
    folder: Path
    paths: tuple[Path, ...]
    n_bytes: int
    fault: str = ""

    @property
    def status(self) -> str:
        """How the run ended; ``unreadable`` where its record cannot be read."""
        return self.record.status if self.record else "unreadable"

    def metric(self, name: str, part: str = "test") -> float | None:
        """Return a metric of the run, or None where it has none."""
        return self.record.metrics.get(part, {}).get(name) if self.record else None


def find_runs(runs_dir: Path) -> list[RunFolder]:
    """Return the runs of a folder, oldest first.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not runs_dir.is_dir():
        raise FileNotFoundError(f"there is no folder of runs {str(runs_dir)!r} (--runs_dir).")
    return [_read(path.parent) for path in sorted(runs_dir.glob("*/record.json"))]


def _read(folder: Path) -> RunFolder:
    try:
        record = RunRecord.load(folder)
    except (ValueError, OSError) as error:
        return RunFolder(None, folder, (), _size(folder), str(error))
    paths = _outside(record)
    return RunFolder(record, folder, paths, _size(folder) + sum(map(_size, paths)))


def _outside(record: RunRecord) -> tuple[Path, ...]:
    """Return the run's own files outside its folder: its checkpoints and its log.

    Both have the run's id as their name, and only an id that a run is given counts: whatever
    a record says, nothing else is ever removed.
    """
    if not _RUN_ID.fullmatch(record.id) or Path(record.folder).name != record.id:
        return ()
    checkpoints = Path(str(record.config.get("checkpoint_dir", "saved"))) / record.id
    log = Path(record.files.get("log", ""))
    found = [checkpoints] if checkpoints.is_dir() else []
    return (*found, log) if log.name == f"{record.id}.log" and log.is_file() else tuple(found)


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.lstat().st_size for each in files)


def remove_runs(runs: Sequence[RunFolder]) -> list[str]:
    """Remove runs with their checkpoints and logs; one that is still going on is kept.

    Returns:
        A line for each run that was kept, with the reason.
    """
    kept = []
    for run in runs:
        try:
            with only_writer(run.folder):
                for path in run.paths:
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                shutil.rmtree(run.folder)
        except FolderBusyError as error:
            kept.append(f"{run.folder.name} is still going on ({error})")
    return kept
