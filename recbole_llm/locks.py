"""A lock on a folder, held by the only process that writes there.

The lock is the file ``.lock`` in the folder, locked by ``flock`` as filelock does it; the system
frees it when its process ends, however that ends. Its text names the process that holds it. The
holder removes the file, which is safe because whoever gets a lock checks that its file is still the
one in the folder.
"""

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recbole_llm.processes import is_main

LOCK_NAME = ".lock"
_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}  # network file systems without locks
_POLL_S = 0.1
_GRACE_S = 0.5  # others hold a lock for a moment to remove what a killed process left


class FolderBusyError(ValueError):
    """Another process writes into the folder; the text says which: ``process id 7 on host a``."""


@contextmanager
def only_writer(folder: Path, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Keep every other process that asks for it out of ``folder`` until the block ends.

    Files that a killed process was writing in the folder (``files.replacing``) are removed. Of
    several processes of one run the main one holds the lock for all.

    Args:
        folder: folder to lock; it is made.
        on_wait: callback before waiting for another process, with that process as text; None to
            raise an error in place of waiting.

    Raises:
        FolderBusyError: another process, or thread, holds the lock and ``on_wait`` is None.
        OSError: the folder is not writable.
    """
    if not is_main():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    path, begin, is_waiting = folder / LOCK_NAME, time.monotonic(), False
    while (handle := _try_lock(path)) is None:
        if not is_waiting and time.monotonic() - begin > _GRACE_S:
            if on_wait is None:
                raise FolderBusyError(_holder(path))
            on_wait(_holder(path))
            is_waiting = True
        time.sleep(_POLL_S)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"process id {os.getpid()} on host {socket.gethostname()}".encode())
        for partial in folder.glob(".*.partial"):
            partial.unlink(missing_ok=True)
        yield
    finally:
        with suppress(OSError):  # the error that led here says more
            path.unlink(missing_ok=True)
        os.close(handle)


def clear_partials(folders: Path, locked_in: Path | None = None) -> None:
    """Remove what killed processes were writing in the folders inside ``folders``.

    Args:
        folders: parent of the folders; those that another process holds are left alone.
        locked_in: parent of the folders of the same names that hold the locks, if another one.
    """
    for partial in folders.glob("*/.*.partial"):
        locked = (locked_in or folders) / partial.parent.name
        if locked.is_dir():
            with suppress(FolderBusyError, OSError), only_writer(locked):
                partial.unlink(missing_ok=True)


def _try_lock(path: Path) -> int | None:
    """Return the descriptor of the lock file, locked; None while another one holds it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            logging.getLogger().warning("%s: this file system has no locks.", path.parent)
            return handle
        os.close(handle)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return None
        raise
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(handle), path.stat()):
            return handle
    os.close(handle)  # its holder removed the file in between
    return _try_lock(path)


def _holder(path: Path) -> str:
    with suppress(OSError):
        return path.read_text() or "another process"
    return "another process"
