"""The data set ``shop``, and pictures for it."""

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ITEMS = [f"i{n}" for n in range(1, 9)]


def picture(seed: int, size: tuple[int, int] = (40, 50)) -> Image.Image:
    """Return a noisy RGB image of (height, width)."""
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def png(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    picture(seed).save(buffer, "png")
    return buffer.getvalue()


class Shop:
    """The folder of the data set ``shop``.

    Item i5 has no text, i6 the text of i1; i9 is in the interactions alone.
    """

    def __init__(self, data_path: Path) -> None:
        self.data_path, self.path = data_path, data_path / "shop"
        self.path.mkdir(parents=True)
        lines = ["user_id:token\titem_id:token\ttimestamp:float"]
        bought = [*ITEMS, "i9"]
        for user in range(9):
            lines += [f"u{user}\t{bought[(user + n) % 9]}\t{n}" for n in range(6)]
        (self.path / "shop.inter").write_text("\n".join(lines) + "\n")
        self.write_items({})

    def write_items(self, urls: dict[str, str]) -> None:
        rows = ["item_id:token\ttitle:token_seq\tbrand:token\tbrand_id:token\timage_url:token"]
        for n, item in enumerate(ITEMS, start=1):
            title = {5: "", 6: "Red shoe 1"}.get(n, f"Red shoe {n}")
            brand = "" if n == 5 else "Acme"
            rows.append(f"{item}\t{title}\t{brand}\tb{n}\t{urls.get(item, '')}")
        (self.path / "shop.item").write_text("\n".join(rows) + "\n")

    def feature(self, modality: str) -> np.ndarray:
        return np.load(self.path / f"{modality}_feat.npy")

    def manifest(self, modality: str) -> dict[str, Any]:
        return json.loads((self.path / f"{modality}_feat.json").read_text())


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
