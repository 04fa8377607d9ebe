"""The sha256 of a zip archive, as the comment at its end; torch compares no sum inside it."""

import hashlib
import os
import re
from pathlib import Path
from typing import IO

_COMMENT = re.compile(rb"sha256:[0-9a-f]{64}")
_SIZE = 71  # bytes of the comment
_NO_COMMENT = (0).to_bytes(2, "little")  # its length, the last bytes of an archive without one


class DigestingFile:
    """A file to write to, and the sha256 of all that was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Write ``data`` and return its length."""
        self.sha256.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        """Flush the file."""
        self.file.flush()

    def write_comment(self) -> None:
        """Give the archive that was written its comment."""
        self.file.seek(-len(_NO_COMMENT), os.SEEK_END)
        self.file.write(_SIZE.to_bytes(2, "little") + _comment(self.sha256))


def check_sum(path: Path) -> bool:
    """Compare a file with the sha256 in its comment; return whether it has one.

    Raises:
        ValueError: they differ.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END) - _SIZE - len(_NO_COMMENT)
        file.seek(max(size, 0))
        length, comment = file.read(2), file.read()
        if length != _SIZE.to_bytes(2, "little") or not _COMMENT.fullmatch(comment):
            return False
        file.seek(0)
        digest = hashlib.sha256()
        while block := file.read(min(size, 1 << 20)):
            digest.update(block)
            size -= len(block)
    digest.update(_NO_COMMENT)
    if comment != _comment(digest):
        raise ValueError("its checksum differs")
    return True


def _comment(digest: "hashlib._Hash") -> bytes:
    return f"sha256:{digest.hexdigest()}".encode()
