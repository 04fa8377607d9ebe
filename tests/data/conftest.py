"""Tiny atomic datasets in a temporary folder."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

from recbole_llm.config import Config
from recbole_llm.data.items import Items

# Order of first use differs from ITEMS, so that RecBole's ids are not the rows of any file.
ITEMS = ["i1", "i2", "i3", "i4", "i5"]
_TAKEN = {
    "ann": ["i4", "i2", "i5"],
    "bob": ["i5", "i1", "i3", "i4"],
    "cid": ["i3", "i2", "i4"],
    "dot": ["i1", "i4", "i2"],
}
INTER = [
    (user, item, time) for user, items in _TAKEN.items() for time, item in enumerate(items, start=1)
]
INTER_HEADER = ("user_id:token", "item_id:token", "timestamp:float")


class Folder:
    """The folder of dataset ``tiny`` under a temporary ``data_path``."""

    item_tokens = ITEMS
    inter = INTER

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "tiny"
        self.path.mkdir()

    def write_table(self, suffix: str, header: Sequence[str], rows: Iterable[Sequence]) -> None:
        lines = ["\t".join(map(str, row)) for row in [header, *rows]]
        (self.path / f"tiny.{suffix}").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def write_inter(self, rows: Iterable[Sequence] = INTER) -> None:
        self.write_table("inter", INTER_HEADER, rows)

    def write_items(self, rows: Sequence[Sequence[str]]) -> None:
        header = ("item_id:token", "title:token_seq", "year:token", "genre:token_seq")
        self.write_table("item", header, rows)

    def write_ids(self, tokens: Sequence[str] = ITEMS) -> None:
        (self.path / "item_ids.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")

    def config(self, model: str = "BPR", **overrides: object) -> Config:
        settings = {
            "data_path": str(self.root),
            "cache_dir": str(self.root / "cache"),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "protocol": "loo",
            "show_progress": False,
            **overrides,
        }
        return Config(model, "tiny", overrides=settings)

    def items(self, tokens: Sequence[str] = ITEMS, **overrides: object) -> Items:
        return Items(self.config(**overrides), ["[PAD]", *tokens])


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Return a dataset with interactions and nothing else."""
    folder = Folder(tmp_path)
    folder.write_inter()
    return folder


@pytest.fixture
def fake_encoder(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Replace the sentence encoder by one that counts letters; returns the texts of each call."""
    calls: list[list[str]] = []

    def encode(texts: list[str], encoder: str, show_progress: bool = True) -> np.ndarray:
        calls.append(texts)
        return np.array([[len(t), t.count("a") + 1] for t in texts], dtype=np.float32)

    monkeypatch.setattr("recbole_llm.encoders.text.encode_texts", encode)
    monkeypatch.setattr("recbole_llm.encoders.text.encoder_version", lambda encoder: "1")
    return calls
