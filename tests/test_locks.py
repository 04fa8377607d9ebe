"""One writer a folder (kind 8): who comes second waits, or is told who is first."""

import multiprocessing
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from recbole_llm import locks
from recbole_llm.locks import LOCK_NAME, FolderBusyError, clear_partials, only_writer


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_GRACE_S", 0)
    monkeypatch.setattr(locks, "_POLL_S", 0.001)


def test_the_second_is_told_the_process_of_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    expected = f"process id {os.getpid()} on host {socket.gethostname()}"
    with only_writer(folder):
        with pytest.raises(FolderBusyError, match=expected), only_writer(folder):
            pass
        assert (folder / LOCK_NAME).exists()
    assert list(folder.iterdir()) == []
    with only_writer(folder):
        pass


def test_the_second_waits_and_says_so_once(tmp_path: Path) -> None:
    order: list[str] = []
    begun = threading.Event()

    def second() -> None:
        def on_wait(holder: str) -> None:
            order.append(holder)
            begun.set()

        with only_writer(tmp_path, on_wait):
            order.append("second")

    thread = threading.Thread(target=second)
    with only_writer(tmp_path):
        thread.start()
        assert begun.wait(10)
        order.append("first")
    thread.join(10)
    assert order[0].startswith("process id") and order[1:] == ["first", "second"]


def _hold_and_die(folder: Path, held: Any) -> None:
    (folder / ".output.pth.1.2.partial").touch()
    lock = only_writer(folder)
    lock.__enter__()
    (folder / ".record.json.1.2.partial").touch()
    held.set()
    os._exit(9)  # as SIGKILL: nothing is cleaned up


def test_what_a_killed_process_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    folder, held = tmp_path / "run", context.Event()
    folder.mkdir()
    process = context.Process(target=_hold_and_die, args=(folder, held))
    process.start()
    process.join(10)
    assert held.is_set() and len(list(folder.iterdir())) == 2
    with only_writer(folder):
        assert [path.name for path in folder.iterdir()] == [LOCK_NAME]


def test_the_files_of_a_live_process_stay(tmp_path: Path) -> None:
    live, dead, other = (tmp_path / name for name in ("live", "dead", "other"))
    for folder in (live, dead, other / "dead", other / "unknown"):
        folder.mkdir(parents=True)
    with only_writer(live):
        for folder in (live, dead, other / "dead", other / "unknown"):
            (folder / ".last.pth.1.2.partial").touch()
        (dead / "last.pth").touch()
        clear_partials(tmp_path)
        clear_partials(other, locked_in=tmp_path)
        assert (live / ".last.pth.1.2.partial").exists()
    assert [path.name for path in dead.iterdir()] == ["last.pth"]
    assert not any((other / "dead").iterdir())
    assert any((other / "unknown").iterdir()), "nobody knows who writes there"


def test_a_lock_file_removed_by_its_holder_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that opened the file before it was removed would hold a lock on no file."""
    lock = locks.fcntl.flock
    removed = []

    def remove_first(handle: int, mode: int) -> None:
        lock(handle, mode)
        if not removed:
            removed.append((tmp_path / LOCK_NAME).unlink())

    monkeypatch.setattr(locks.fcntl, "flock", remove_first)
    with only_writer(tmp_path):
        assert (tmp_path / LOCK_NAME).exists()


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(locks.errno.ENOLCK, "no locks")

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with only_writer(tmp_path):
        pass
    assert f"{tmp_path}: this file system has no locks" in caplog.text
