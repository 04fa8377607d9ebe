"""Files and folders that are written whole or not at all, their checksums and their names."""

import errno
import glob
import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name a file in the errors of a full or broken disk, which say nothing of it themselves.

    Raises:
        OSError: the block's, with ``path`` as its ``filename`` if it had none.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[IO[bytes]]:
    """Write a file under a hidden name next to it; it takes its place once it is whole.

    Args:
        path: the file to write; its folder exists.
        durable: whether the content is on the disk itself before it takes its place, so that a
            power cut leaves the old file or the new one.

    Raises:
        OSError: the file cannot be written; an older one at ``path`` is intact.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        with naming(path), partial.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        with suppress(OSError):  # the error that led here says more
            partial.unlink(missing_ok=True)


def clear_partials_of(path: Path) -> None:
    """Remove what killed processes left while writing ``path``; the caller holds its lock."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Fill a folder under a hidden name next to it; it takes its place once the block ends.

    An older folder at ``folder`` stays until then, and after an error it stays for good. What a
    killed process left behind is removed first, so two processes must not write one folder at
    once: a caller that can meet another one holds a lock.

    Args:
        folder: the folder to write; its parents are made.

    Yields:
        The empty folder to fill.
    """
    recover_folder(folder)
    partial, old = _aside(folder, "partial"), _aside(folder, "old")
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """Undo what a process killed inside ``replacing_folder`` left: the older folder is back."""
    old = _aside(folder, "old")
    if old.exists() and not folder.exists():  # killed between the two renames
        old.rename(folder)
    for leftover in (old, _aside(folder, "partial")):
        shutil.rmtree(leftover, ignore_errors=True)


def _aside(folder: Path, suffix: str) -> Path:
    return folder.with_name(f".{folder.name}.{suffix}")


def check_writable(folder: Path, setting: str) -> None:
    """Try whether files can be made in a folder, which need not exist; nothing is left behind.

    Args:
        folder: folder that is to be written later.
        setting: name of the setting that it comes from, for the error.

    Raises:
        OSError: the folder, or the nearest one above it, cannot be written or is a file.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return
    except OSError as error:
        raise OSError(
            f"{setting}={str(folder)!r} cannot be written: {nearest}: {error.strerror}. Name "
            f"another folder by --{setting}."
        ) from error


def write_ids(path: Path, tokens: Iterable[str]) -> None:
    """Write one token a line, as the row order of a feature file is listed."""
    with replacing(path) as file:
        file.write("".join(f"{token}\n" for token in tokens).encode())


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file without its byte order mark; line ends are line feeds.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not UTF-8; the text names the file and the line.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}, line {number}: the text is not UTF-8 ({error.reason}). Save it as UTF-8."
        ) from error


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_name(kind: str, name: str) -> str:
    """Return a name that a file or folder is given, unless it could lead to another folder.

    Args:
        kind: what has the name, such as ``dataset``, for the message.
        name: a letter, digit or _ first, then those, - and dots.

    Raises:
        ValueError: the name holds another character.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(
            f"{kind}: the name {name!r} must be a folder's name of letters, digits, _, - and dots."
        )
    return name
