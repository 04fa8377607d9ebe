"""Files written whole or not at all, and their checksums."""

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file under a temporary name beside it; it takes its place only when it is whole."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_ids(path: Path, tokens: Iterable[str]) -> None:
    """Write one token a line, as the row order of a feature file is listed."""
    with replacing(path) as file:
        file.write("".join(f"{token}\n" for token in tokens).encode())


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
