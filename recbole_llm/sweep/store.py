"""The storage of studies: SQLite, a journal file or a server; heartbeats; lost connections."""

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import optuna
import sqlalchemy.exc
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState

warnings.filterwarnings("ignore", category=ExperimentalWarning)
optuna.logging.set_verbosity(optuna.logging.WARNING)

#: Seconds without an answer of the database before a worker gives up.
PATIENCE_S = 120.0
_T = TypeVar("_T")


class _JournalStorage(JournalStorage, BaseHeartbeat):
    """Optuna's journal file, with heartbeats as an attribute of the trial."""

    def __init__(self, backend: JournalFileBackend, interval_s: int) -> None:
        super().__init__(backend)
        self.interval_s = interval_s

    def record_heartbeat(self, trial_id: int) -> None:
        self.set_trial_system_attr(trial_id, "heartbeat", time.time())

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        oldest = time.time() - 2 * self.interval_s
        return [t._trial_id for t in running if t.system_attrs.get("heartbeat", oldest) < oldest]

    def get_heartbeat_interval(self) -> int:
        return self.interval_s

    def get_heartbeat_stale_trial_callback(self) -> None:
        return None


class Store(NamedTuple):
    """An open storage.

    Attributes:
        storage: Optuna's storage.
        lock: lock of the storage's file, or a context that does nothing for a server.
    """

    storage: BaseStorage
    lock: Any


def open_store(url: str, heartbeat_s: int) -> Store:
    """Open a storage.

    Args:
        url: ``sqlite:///file``, ``postgresql://...`` or another URL of SQLAlchemy's, or the path
            of a journal file.
        heartbeat_s: seconds between signs of life; a trial is lost after twice as many.

    Raises:
        ImportError: the driver of the database is not installed.
    """
    scheme, found, path = url.partition("://")
    if not found:
        Path(url).parent.mkdir(parents=True, exist_ok=True)
        return Store(
            _JournalStorage(JournalFileBackend(url), heartbeat_s), FileLock(f"{url}.claim")
        )
    lock: Any = nullcontext()
    engine: dict[str, Any] = {"pool_pre_ping": True}  # a broken connection is replaced
    if scheme.startswith("sqlite"):
        file = Path(path.removeprefix("/"))
        file.parent.mkdir(parents=True, exist_ok=True)
        # SQLite has no row locks: two workers could find the same trial waiting, and both run it.
        lock, engine = FileLock(f"{file}.claim"), {"connect_args": {"timeout": 60}}
    if scheme == "postgresql":  # SQLAlchemy's choice of driver differs between its releases
        url = f"postgresql+psycopg://{path}"
    try:
        with lock:  # the first worker makes the tables
            storage = patiently(lambda: _connect(url, engine, heartbeat_s))
    except ImportError as error:
        raise ImportError(
            f"--storage={scheme}://...: its driver is not installed. For PostgreSQL: "
            f"pip install 'recbole-llm[postgresql]'. ({error.__cause__ or error})"
        ) from error
    return Store(storage, lock)


def _connect(url: str, engine: dict[str, Any], heartbeat_s: int) -> RDBStorage:
    def call() -> RDBStorage:
        return RDBStorage(url, engine, heartbeat_interval=heartbeat_s, grace_period=2 * heartbeat_s)

    try:
        return call()
    except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
        # On a server, another worker may have made the tables in the same moment.
        time.sleep(1.0)
        return call()


def patiently(call: Callable[[], _T], patience_s: float | None = None) -> _T:
    """Call a storage, and repeat the call while its database does not answer.

    Args:
        call: function that reads or writes the storage.
        patience_s: seconds before the error is raised; None: ``PATIENCE_S``.
    """
    until = time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
    pause_s = 0.2
    while True:
        try:
            return call()
        except (StorageInternalError, sqlalchemy.exc.OperationalError):
            if time.monotonic() + pause_s > until:
                raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 5.0)


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
