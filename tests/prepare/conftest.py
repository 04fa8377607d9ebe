"""A misbehaving file server, the command, and what it writes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from file_server import FileServer
from raw_files import Shop, events

from recbole_llm.cli.main import main
from recbole_llm.net import download


@pytest.fixture
def server() -> Iterator[FileServer]:
    """Return a file server that serves nothing yet."""
    server = FileServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the second attempt of a download come at once."""
    monkeypatch.setattr(download, "BACKOFF_S", 0.001)


@pytest.fixture
def shop(server: FileServer) -> Shop:
    """Return a shop with 108 reviews of 12 users."""
    shop = Shop(server)
    shop.publish(events(), images=True)
    return shop


class Prepare:
    """``recbole_llm prepare`` in this process; what it printed is in ``out`` and ``err``."""

    def __init__(self, data_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.data_path, self._capsys = data_path, capsys

    def __call__(self, *words: str, status: int = 0) -> None:
        self._capsys.readouterr()
        found = main(["prepare", *words, f"--data_path={self.data_path}"])
        self.out, self.err = self._capsys.readouterr()
        assert found == status, self.out + self.err

    def fails(self, *words: str) -> str:
        """Run a command that fails, leaves no dataset behind, and says why in what is returned."""
        self(*words, status=2)
        assert "Traceback" not in self.err
        assert not [path for path in self.data_path.rglob("*.inter")]
        assert not [path for path in self.data_path.glob(".*") if path.is_dir()]
        return self.err[self.err.index("error: ") :]

    def table(self, name: str, suffix: str = "inter") -> pd.DataFrame:
        return read_atomic(self.data_path / name / f"{name}.{suffix}")

    def manifest(self, name: str) -> dict[str, Any]:
        return json.loads((self.data_path / name / "manifest.json").read_text())


@pytest.fixture
def builder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Prepare:
    """Return the command; its ``data_path`` is ``dataset`` in the test's folder."""
    return Prepare(tmp_path / "dataset", capsys)


def read_atomic(path: Path) -> pd.DataFrame:
    """Read an atomic file without the guesses of pandas: split at tabs, numbers by type."""
    header, *lines = path.read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    names, kinds = zip(*(column.split(":") for column in header.split("\t")), strict=True)
    frame = pd.DataFrame([line.split("\t") for line in lines], columns=names)
    for name, kind in zip(names, kinds, strict=True):
        if kind == "float":
            frame[name] = pd.to_numeric(frame[name])
    return frame
