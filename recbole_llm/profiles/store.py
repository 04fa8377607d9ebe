"""Answers of models in one SQLite file, each under a hash of everything it depends on."""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from recbole_llm.profiles.answer import Answer

FILE_NAME = "reason.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY,           -- sha256 of request
    request TEXT NOT NULL,          -- JSON: prompt, image, back end, model, revision, decoding
    text TEXT NOT NULL,
    is_cut INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    created REAL NOT NULL           -- Unix seconds
)
"""


class Stored(NamedTuple):
    """An answer and the request that it answers."""

    request: dict[str, Any]
    answer: Answer


def request_key(request: Mapping[str, Any]) -> str:
    """Return the sha256 hex digest that a request is stored under."""
    return hashlib.sha256(_json(request).encode()).hexdigest()


class AnswerStore:
    """Answers by request. Each is on disk when ``put`` returns; processes may share the file.

    Raises:
        OSError: the file cannot be opened, read or written (full disk, locked for a minute).
        ValueError: the file is not such a store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors():
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            # Write-ahead: a reader never waits, and a killed writer leaves the last whole answer.
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute(_SCHEMA)

    def get(self, key: str) -> Stored | None:
        """Return what is stored under a key, or None."""
        query = (
            "SELECT request, text, is_cut, prompt_tokens, output_tokens FROM answers WHERE key = ?"
        )
        with self._errors():
            row = self._connection.execute(query, (key,)).fetchone()
        if row is None:
            return None
        return Stored(json.loads(row[0]), Answer(row[1], bool(row[2]), row[3], row[4]))

    def put(self, request: Mapping[str, Any], answer: Answer) -> str:
        """Store an answer and return its key; an answer that is already stored stays."""
        key = request_key(request)
        row = (key, _json(request), *answer, time.time())
        with self._errors():
            self._connection.execute(
                "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", row
            )
        return key

    def __len__(self) -> int:
        with self._errors():
            return int(self._connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0])

    def __enter__(self) -> "AnswerStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Say which file it is: sqlite3's errors do not, and are neither OSError nor ValueError."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OSError(f"store of answers {self.path}: {error}.") from error
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"store of answers {self.path} is damaged or no SQLite file ({error}). Move it "
                f"away; a new one will be started."
            ) from error


def _json(request: Mapping[str, Any]) -> str:
    return json.dumps(request, sort_keys=True, ensure_ascii=False)
