"""Studies in a database: SQLite or a server, its lock, its errors in one line, and patience."""

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
import sqlalchemy.exc
from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import VersionInfoModel
from sqlalchemy.engine import URL, Connection, Engine, make_url

from recbole_llm.registry import suggest
from recbole_llm.secrets import mask_url

#: Seconds without an answer of the database before a worker gives up.
PATIENCE_S = 120.0
#: Seconds after which a server takes its lock back from a worker that does not answer.
_LOCK_S = 300
_CONNECT_S = 10
DATABASE_ERRORS = (StorageInternalError, sqlalchemy.exc.SQLAlchemyError)
_KINDS = ["sqlite", "postgresql", "mysql", "mariadb"]
_T = TypeVar("_T")


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
        except DATABASE_ERRORS as error:
            if not _may_pass(error) or time.monotonic() + pause_s > until:
                raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 5.0)


def _may_pass(error: BaseException) -> bool:
    """Whether a database may answer again: its server is away, or its file is locked."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, sqlalchemy.exc.DBAPIError) and isinstance(cause.orig, sqlite3.Error):
        return "locked" in str(cause.orig)
    lost = isinstance(cause, sqlalchemy.exc.DBAPIError) and cause.connection_invalidated
    # Optuna wraps what a session raises after its server has gone, whatever it is.
    return lost or isinstance(error, (StorageInternalError, sqlalchemy.exc.OperationalError))


@contextmanager
def database_errors(url: str) -> Iterator[None]:
    """Turn errors of a database into one line that names it, without its password.

    Raises:
        OSError: the database refused, or did not answer.
    """
    try:
        yield
    except DATABASE_ERRORS as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        reason = getattr(cause, "orig", None) or cause or error
        text = mask_url(" ".join(str(reason).split()))
        raise OSError(f"--storage={mask_url(url)}: {text}") from error


class ServerLock:
    """A lock of a database server that one worker holds at a time, wherever the workers run.

    It is a lock of the row that every storage of Optuna's has. The server gives it up when the
    worker's connection ends, and PostgreSQL also when a worker holds it for ``_LOCK_S`` seconds.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    def __enter__(self) -> None:
        self._connection = patiently(self._acquire, _LOCK_S + PATIENCE_S)

    def __exit__(self, *_: object) -> None:
        assert self._connection is not None
        with suppress(sqlalchemy.exc.SQLAlchemyError):  # a lost connection holds no lock
            self._connection.close()

    def _acquire(self) -> Connection:
        connection = self._engine.connect()
        try:
            if self._engine.dialect.name == "postgresql":
                limit = f"SET LOCAL idle_in_transaction_session_timeout = '{_LOCK_S}s'"
                connection.execute(sqlalchemy.text("SET LOCAL lock_timeout = '5s'"))
                connection.execute(sqlalchemy.text(limit))
            row = sqlalchemy.select(VersionInfoModel.version_info_id)
            connection.execute(row.with_for_update())
        except BaseException:
            connection.close()
            raise
        return connection


def open_database(url: str, heartbeat_s: int) -> tuple[RDBStorage, Any]:
    """Open the studies of a database, which has to answer at once.

    Args:
        url: address of SQLAlchemy's form.
        heartbeat_s: seconds between signs of life; a trial is lost after twice as many.

    Returns:
        The storage, and the lock that its workers share.

    Raises:
        ValueError: the address is malformed, or its kind of database is unknown.
        ImportError: the driver of the database is not installed.
        OSError: the database is damaged, does not answer, or refuses the user.
    """
    address = _parse(url)
    try:
        with database_errors(url):
            if address.get_backend_name() == "sqlite":
                return _open_sqlite(address, heartbeat_s)
            storage = _connect(address, {"pool_pre_ping": True, **_timeout(address)}, heartbeat_s)
    except ImportError as error:
        raise ImportError(
            f"--storage={address.drivername}://...: its driver is not installed. For PostgreSQL: "
            f"pip install 'recbole-llm[postgresql]'. ({error.__cause__ or error})"
        ) from error
    return storage, ServerLock(storage.engine)


def _parse(url: str) -> URL:
    # SQLAlchemy's choice of driver differs between its releases.
    named = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)
    scheme = url.partition("://")[0]
    try:
        address = make_url(named)
        address.get_dialect()
    except sqlalchemy.exc.NoSuchModuleError as error:
        raise ValueError(
            f"--storage={mask_url(url)}: unknown kind of database {scheme!r}."
            f"{suggest(scheme, _KINDS)} Expected sqlite:///FILE, postgresql://USER@HOST/NAME, or "
            f"the path of a journal file."
        ) from error
    except ImportError:  # told below, with what to install
        return address
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise ValueError(
            f"--storage={mask_url(url)} is not an address such as sqlite:///FILE or "
            f"postgresql://USER:PASSWORD@HOST:PORT/NAME; a password's @, / and : are written as "
            f"%40, %2F and %3A."
        ) from error
    return address


def _timeout(address: URL) -> dict[str, Any]:
    if address.get_backend_name() != "postgresql" or "connect_timeout" in address.query:
        return {}
    return {"connect_args": {"connect_timeout": _CONNECT_S}}


def _open_sqlite(address: URL, heartbeat_s: int) -> tuple[RDBStorage, FileLock]:
    if address.database in (None, "", ":memory:"):
        raise ValueError("--storage: sqlite:///FILE needs a file; studies are kept in it.")
    file = Path(str(address.database))
    file.parent.mkdir(parents=True, exist_ok=True)
    # SQLite has no row locks: two workers could find the same trial waiting, and both run it.
    lock = FileLock(f"{file}.claim")
    with lock:  # the first worker makes the tables
        if file.exists():
            _check_sqlite(file)
        return _connect(address, {"connect_args": {"timeout": 60}}, heartbeat_s), lock


def _check_sqlite(file: Path) -> None:
    """Check the pages of a file.

    Raises:
        OSError: it is damaged, or holds something else.
    """
    try:
        with closing(sqlite3.connect(file, timeout=60)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        text = " ".join(found.split())
        raise OSError(
            f"--storage: {file} is damaged or no database of SQLite ({text}). Restore it from a "
            f"copy, or begin anew with another --storage."
        )


def _connect(address: URL, engine: dict[str, Any], heartbeat_s: int) -> RDBStorage:
    url = address.render_as_string(hide_password=False)

    def call() -> RDBStorage:
        return RDBStorage(url, engine, heartbeat_interval=heartbeat_s, grace_period=2 * heartbeat_s)

    try:
        return call()
    except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
        # On a server, another worker may have made the tables in the same moment.
        time.sleep(1.0)
        return call()
