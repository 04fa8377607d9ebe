"""A storage that cannot be used is an error of one line, at once, without its password."""

import os
import shlex
import socket
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError
from small_sweep import write_spec

from recbole_llm.cli.main import main
from recbole_llm.sweep.database import PATIENCE_S, database_errors, patiently
from recbole_llm.sweep.store import open_store
from recbole_llm.sweep.task import Task


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("foo://ann:s3cret@host/db", "unknown kind of database 'foo'"),
        ("postgress://ann:s3cret@host/db", "Did you mean 'postgresql'?"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:/a.db", "has :// after its kind"),
        ("postgresql:ann:s3cret@host/db", "has :// after its kind"),
        ("postgresql://ann:s3cret@host:port/db", "is not an address such as"),
        ("postgresql://ann:s3cret@127.0.0.1:{port}/db", "refused"),
        ("postgres://ann@127.0.0.1:{port}/db?password=s3cret", "refused"),
    ],
)
def test_a_wrong_address_or_a_server_that_is_down(
    storage: str, message: str, work: Path, fakes: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = fakes(lambda settings: 0.5)
    begin = time.monotonic()
    storage = storage.replace("{port}", str(free_port()))
    assert main(["sweep", str(write_spec(work)), f"--storage={storage}"]) == 2 and not ran
    assert time.monotonic() - begin < 10
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert message in line and "s3cret" not in output.out + output.err
    assert [path.name for path in work.iterdir()] == ["t.yaml"], "nothing is made"


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def random(content: bytes) -> bytes:
    return os.urandom(len(content))


def flipped(content: bytes) -> bytes:
    middle = len(content) // 3
    return (
        content[:middle]
        + bytes(255 - byte for byte in content[middle : middle + 4096])
        + (content[middle + 4096 :])
    )


@pytest.mark.parametrize("damage", [truncated, random, flipped])
def test_a_damaged_sqlite_file(
    damage: Callable[[bytes], bytes],
    work: Path,
    fakes: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fakes(lambda settings: 0.5)
    line = ["sweep", str(write_spec(work)), "--storage=sqlite:///s.db"]
    assert main(line) == 0
    capsys.readouterr()
    damaged = damage((work / "s.db").read_bytes())
    (work / "s.db").write_bytes(damaged)
    assert main(line) == 2
    (text,) = capsys.readouterr().err.splitlines()
    assert "s.db is damaged or no database of SQLite" in text
    assert (work / "s.db").read_bytes() == damaged


def test_a_full_disk_of_sqlite_is_not_waited_for(
    work: Path, fakes: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    limited: list[Any] = []

    def limit(connection: Any, *_: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    def value(settings: dict[str, Any]) -> float:
        if not limited:
            sqlalchemy.event.listen(sqlalchemy.pool.Pool, "checkout", limit)
            limited.append(limit)
        return 0.5

    fakes(value)
    path = write_spec(work, seeds=list(range(1, 400)))  # their final runs need many pages
    begin = time.monotonic()
    try:
        assert main(["sweep", str(path), "--storage=sqlite:///s.db"]) == 2
    finally:
        sqlalchemy.event.remove(sqlalchemy.pool.Pool, "checkout", limit)
    assert time.monotonic() - begin < 60
    (text,) = capsys.readouterr().err.splitlines()
    assert text == "error: --storage=sqlite:///s.db: database or disk is full"
    assert main(["sweep", str(write_spec(work)), "--storage=sqlite:///s.db"]) == 0


def test_a_full_disk_under_a_run_ends_the_worker_and_not_its_trials(
    work: Path, fakes: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    full = [True]

    def value(settings: dict[str, Any]) -> float:
        if full[0]:
            raise OSError(28, "No space left on device", "saved/last.pth")
        return 0.5

    ran = fakes(value)
    line = ["sweep", str(write_spec(work))]
    assert main(line) == 2 and len(ran) == 1
    assert "No space left on device: 'saved/last.pth'" in capsys.readouterr().err
    full[0] = False
    assert main(line) == 0 and len(ran) == 1 + 5, "the trial was handed back"


def test_a_database_that_is_gone_under_a_run_is_no_failure_of_the_trial(
    work: Path, fakes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(task: Task, trial: Any) -> float:
        raise StorageInternalError("gone")

    fakes(lambda settings: 0.5)
    monkeypatch.setattr(Task, "run_trial", gone)
    line = ["sweep", str(write_spec(work)), "--heartbeat_s=1"]
    assert main(line) == 2
    trials = open_store("sqlite:///runs/sweeps/t/studies.db", 1).storage.get_all_trials(1)
    assert not any("error" in trial.user_attrs for trial in trials)


def test_only_what_may_pass_is_waited_for() -> None:
    calls: list[str] = []

    def call(text: str) -> None:
        calls.append(text)
        raise sqlalchemy.exc.OperationalError("SELECT 1", {}, sqlite3.OperationalError(text))

    for text in ("database or disk is full", "disk I/O error", "unable to open database file"):
        with pytest.raises(sqlalchemy.exc.OperationalError):
            patiently(lambda text=text: call(text))  # type: ignore[misc]
    assert len(calls) == 3 and PATIENCE_S > 60
    with pytest.raises(sqlalchemy.exc.OperationalError):
        patiently(lambda: call("database is locked"), 0.3)
    assert len(calls) == 5


def test_an_error_of_a_driver_is_one_line_without_a_password() -> None:
    url = "postgresql://ann:s3cret@host/db"
    reason = Exception("cannot reach postgresql://ann:s3cret@host/db\n\tIs it\n running?\n")
    with pytest.raises(OSError, match="--storage=") as caught, database_errors(url):
        raise sqlalchemy.exc.OperationalError("SELECT 1", {}, reason)
    place = "postgresql://ann:***@host/db"
    assert str(caught.value) == f"--storage={place}: cannot reach {place} Is it running?"


def test_a_journal_needs_a_file_that_can_be_written(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "folder").mkdir()
    assert main(["sweep", str(write_spec(work)), "--storage=folder"]) == 2
    assert "folder" in capsys.readouterr().err


def test_the_command_of_a_record_has_no_password(
    runner: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = "postgresql://ann:s3cret@host/db"
    monkeypatch.setattr("sys.argv", ["recbole_llm", "sweep", "t.yaml", f"--storage={storage}"])
    record = runner("Pop")
    assert shlex.split(record.command)[-1] == "--storage=postgresql://ann:***@host/db"
    assert "s3cret" not in (Path(record.folder) / "record.json").read_text()
