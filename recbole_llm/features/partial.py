"""A feature file that grows on disk under a temporary name, so that a killed run can be resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray


class PartialFeatures:
    """Rows that are written batch by batch, and the number of inputs that are done.

    An unfinished file that is not as long as its rows, or whose header differs, starts over.

    ``.<name>.partial.npy`` holds the rows, zero where none is written. ``.<name>.partial.jsonl``
    holds ``identity`` in its first line and then a line a batch, written after the batch's rows are
    on the disk: ``done``, the number of inputs done so far, and ``failed``, the reason of each of
    them that has no vector.

    Args:
        output: path of the finished feature file, in an existing folder.
        identity: JSON values that the rows depend on, all of them.
        shape: (rows, width).
        dtype: float16 or float32.
        overwrite: discard the unfinished file of another identity.

    Raises:
        ValueError: an unfinished file of another identity exists, and ``overwrite`` is false.
        OSError: the folder is not writable, or the disk has no room for the file.
    """

    def __init__(
        self,
        output: Path,
        identity: Mapping[str, Any],
        shape: tuple[int, int],
        dtype: str,
        overwrite: bool,
    ) -> None:
        self.output = output
        self.path = output.with_name(f".{output.stem}.partial.npy")
        self.progress = self.path.with_suffix(".jsonl")
        self.n_done = 0
        self.failed: dict[int, str] = {}
        head = json.dumps(identity, sort_keys=True) + "\n"
        if not (self.path.is_file() and self._resume(head, overwrite, shape, dtype)):
            self.n_done, self.failed = 0, {}
            self._create(head, shape, dtype)
        self._rows = open_memmap(self.path, mode="r+")

    def write(
        self, n_done: int, rows: NDArray[np.int64], vectors: NDArray[Any], failed: Mapping[int, str]
    ) -> None:
        """Write a batch.

        Args:
            n_done: number of inputs done, those of this batch included.
            rows: (n,) row numbers in the file.
            vectors: (n, width) content of the rows.
            failed: reason by input, of the inputs without a vector.
        """
        self._rows[rows] = vectors
        self._rows.flush()
        with self.progress.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"done": n_done, "failed": dict(failed)}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.n_done = n_done
        self.failed |= failed

    def finish(self) -> None:
        """Give the file its final name."""
        del self._rows
        os.replace(self.path, self.output)
        self.progress.unlink()

    def discard(self) -> None:
        """Remove the unfinished file."""
        self.path.unlink(missing_ok=True)
        self.progress.unlink(missing_ok=True)

    def _is_whole(self, shape: tuple[int, int], dtype: str) -> bool:
        """Return whether the file has the header and the length of all its rows."""
        try:
            with self.path.open("rb") as file:
                np.lib.format.read_magic(file)
                found = np.lib.format.read_array_header_1_0(file)
                size = file.tell() + shape[0] * shape[1] * np.dtype(dtype).itemsize
        except ValueError:
            return False
        return found == (shape, False, np.dtype(dtype)) and self.path.stat().st_size == size

    def _resume(self, head: str, overwrite: bool, shape: tuple[int, int], dtype: str) -> bool:
        """Read the progress so far; returns whether there is any to resume from."""
        if not self.progress.is_file():
            return False
        with self.progress.open("rb+") as file:
            found = file.readline().decode()
            if found != head:
                if overwrite or not found.endswith("\n"):
                    return False
                raise ValueError(
                    f"{self.path} is the unfinished work of a run with other settings or inputs "
                    f"({difference(json.loads(found), json.loads(head))}). Finish it with those, "
                    f"or give --overwrite to discard it."
                )
            if not self._is_whole(shape, dtype):  # opened, the file would be filled up with zeros
                return False
            whole = file.tell()
            for line in file:
                if not line.endswith(b"\n"):
                    break  # a killed run's last, half written line
                entry = json.loads(line)
                self.n_done = entry["done"]
                self.failed |= {int(unit): reason for unit, reason in entry["failed"].items()}
                whole += len(line)
            file.truncate(whole)
        return True

    def _create(self, head: str, shape: tuple[int, int], dtype: str) -> None:
        self.discard()
        open_memmap(self.path, mode="w+", dtype=dtype, shape=shape)
        with self.path.open("rb+") as file:
            # Else a full disk kills the process when a row is written into the mapped file.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, self.path.stat().st_size)
        self.progress.write_text(head, encoding="utf-8")


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return the values in which two sets of settings differ, as text."""
    return "; ".join(
        f"{name}: {old.get(name)!r}, now {new.get(name)!r}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    )
