"""A storage in one file: a JSON record a line, whose damaged end is set aside before it is used."""

import json
import logging
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.storages.journal._file import get_lock_file
from optuna.trial import TrialState

from recbole_llm.files import naming

_BEGIN = b'{"op_code":'  # of every record


class SafeJournal(JournalFileBackend):
    """Optuna's journal file, which a kill or a full disk may have cut in the middle of a record.

    What follows the last whole record is moved to ``<file>.damaged-tail``, under the file's lock,
    and a warning says so. Records are appended to whole records only.

    Args:
        path: the file; an empty one is made where there is none.

    Raises:
        ValueError: a line before the end is damaged, or the file is no journal.
        OSError: the file cannot be read or written; the error names it.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = Path(path)
        with get_lock_file(self._lock):
            self._cut_tail(_whole_bytes(self.path))

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Yield the records from a number on.

        Raises:
            ValueError: a line is damaged; names the file and the line.
        """
        try:
            for record in super().read_logs(log_number_from):
                if not isinstance(record, dict):
                    raise ValueError(f"a record is {record!r}")
                yield record
        except ValueError as error:
            _whole_bytes(self.path)  # says which line it is
            raise ValueError(f"journal {self.path} is damaged: {error}") from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, all of them or none.

        Raises:
            OSError: they cannot be written, for example on a full disk; names the file.
        """
        lines = [json.dumps(log, separators=(",", ":")) + "\n" for log in logs]
        with get_lock_file(self._lock):
            size = self.path.stat().st_size
            if size and not _ends_with_newline(self.path):  # another process was killed
                size = _last_newline(self.path)
                self._cut_tail(size)
            try:
                with naming(self.path), self.path.open("ab") as file:
                    file.write("".join(lines).encode())
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                os.truncate(self.path, size)
                raise

    def _cut_tail(self, size: int) -> None:
        """Move what follows the first ``size`` bytes to a file next to the journal."""
        with self.path.open("rb") as file:
            file.seek(size)
            tail = file.read()
        if not tail:
            return
        aside = self.path.with_name(f"{self.path.name}.damaged-tail")
        with naming(aside), aside.open("ab") as file:
            file.write(tail)
        os.truncate(self.path, size)
        logging.getLogger(__name__).warning(
            "journal %s: its last record was cut short (%d bytes), by a kill or a full disk. It is "
            "read up to there; the rest is in %s.",
            self.path,
            len(tail),
            aside,
        )


class HeartbeatJournal(JournalStorage, BaseHeartbeat):
    """A journal's studies, with heartbeats as an attribute of the trial."""

    def __init__(self, backend: SafeJournal, interval_s: int) -> None:
        super().__init__(backend)
        self.interval_s = interval_s

    def record_heartbeat(self, trial_id: int) -> None:
        """Record a sign of life of a trial."""
        self.set_trial_system_attr(trial_id, "heartbeat", time.time())

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        oldest = time.time() - 2 * self.interval_s
        return [t._trial_id for t in running if t.system_attrs.get("heartbeat", oldest) < oldest]

    def get_heartbeat_interval(self) -> int:
        """Return the seconds between signs of life."""
        return self.interval_s

    def get_heartbeat_stale_trial_callback(self) -> None:
        """Return None: the queue itself enqueues lost trials again."""
        return None


def _whole_bytes(path: Path) -> int:
    """Return the size of the whole records that the file begins with.

    Raises:
        ValueError: a whole record follows a damaged line, or the file holds something else.
    """
    whole, damaged = 0, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if _is_record(line) and not damaged:
                whole += len(line)
            elif _is_record(line):
                raise ValueError(
                    f"journal {path}, line {damaged}: the record is damaged, and others follow it. "
                    f"Restore the file from a copy, or begin anew with another --storage."
                )
            elif number == 1 and not _is_cut_record(line):
                raise ValueError(
                    f"{path} is not a journal of studies: its first line is {line[:40]!r}. Give "
                    f"another file to --storage."
                )
            else:
                damaged = damaged or number
    return whole


def _is_record(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        record = json.loads(line.decode())
    except ValueError:
        return False
    return isinstance(record, dict) and {"op_code", "worker_id"} <= record.keys()


def _is_cut_record(line: bytes) -> bool:
    """Whether a line without records before it can be the beginning of one, or zeros."""
    text = line.rstrip(b"\0")
    return text.startswith(_BEGIN) or _BEGIN.startswith(text)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _last_newline(path: Path) -> int:
    """Return the size of the lines that have an end."""
    return path.read_bytes().rfind(b"\n") + 1
