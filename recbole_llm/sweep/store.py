"""The storage of studies: SQLite, a journal file or a server; signs of life of its trials."""

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.storages._heartbeat import BaseHeartbeat

from recbole_llm.sweep.database import open_database, patiently
from recbole_llm.sweep.journal import HeartbeatJournal, SafeJournal

warnings.filterwarnings("ignore", category=ExperimentalWarning)
optuna.logging.set_verbosity(optuna.logging.WARNING)


class Store(NamedTuple):
    """An open storage.

    Attributes:
        storage: Optuna's storage.
        lock: context that one worker at a time is in: a lock of the storage's file, or of the
            server.
    """

    storage: BaseStorage
    lock: Any


def open_store(url: str, heartbeat_s: int) -> Store:
    """Open a storage. A damaged one, or a server that does not answer, is an error at once.

    Args:
        url: ``sqlite:///file``, ``postgresql://...`` or another URL of SQLAlchemy's, or the path
            of a journal file.
        heartbeat_s: seconds between signs of life; a trial is lost after twice as many.

    Raises:
        ValueError: the URL is malformed, or a journal is damaged before its end.
        ImportError: the driver of the database is not installed.
        OSError: the storage cannot be opened: the password, the name or the file is wrong.
    """
    if "://" in url:
        return Store(*open_database(url, heartbeat_s))
    kind = re.match(r"(sqlite|postgres|mysql|mariadb)\w*(\+\w+)?:", url)
    if kind:
        raise ValueError(
            f"--storage={kind[0]}...: an address of a database has :// after its kind, as in "
            f"sqlite:///FILE or postgresql://USER@HOST/NAME."
        )
    Path(url).parent.mkdir(parents=True, exist_ok=True)
    try:
        storage = HeartbeatJournal(SafeJournal(url), heartbeat_s)
    except (KeyError, TypeError, AttributeError) as error:  # records that Optuna does not write
        raise ValueError(
            f"journal {url} is damaged: a record lacks or has a wrong value ({error!r}). Restore "
            f"the file from a copy, or begin anew with another --storage."
        ) from error
    return Store(storage, FileLock(f"{url}.claim"))


def beat(storage: BaseStorage, trial_id: int) -> None:
    """Record a sign of life of a trial."""
    if isinstance(storage, BaseHeartbeat):
        patiently(lambda: storage.record_heartbeat(trial_id))


@contextmanager
def heartbeat(storage: BaseStorage, trial_id: int) -> Iterator[None]:
    """Record signs of life while a trial runs, whether or not the database answers."""
    stop = threading.Event()
    interval_s = storage.get_heartbeat_interval() if isinstance(storage, BaseHeartbeat) else None

    def go() -> None:
        while not stop.wait(interval_s):
            try:
                beat(storage, trial_id)
            except Exception:  # noqa: BLE001 - the run continues: at worst its trial is retried
                continue

    thread = threading.Thread(target=go, daemon=True)
    if interval_s:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if interval_s:
            thread.join(timeout=5)
