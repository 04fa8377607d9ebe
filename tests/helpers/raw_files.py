"""Miniatures of the sources' raw files, each in its true format."""

import gzip
import io
import json
import random
import tarfile
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from file_server import FileServer

from recbole_llm.prepare.sources.amazon2014 import Amazon2014

Event = tuple[str, str, float, int]  # user, item, rating, Unix seconds


def events(n_users: int = 12, n_items: int = 12, each: int = 9, seed: int = 0) -> list[Event]:
    """Distinct pairs in random order; a 5-core."""
    rng = random.Random(seed)
    found = []
    for user in range(n_users):
        for item in rng.sample(range(n_items), each):
            time = 1_546_300_800 + 86_400 * rng.randrange(300)
            found.append((f"U{user:03}", asin(item), float(rng.randint(1, 5)), time))
    rng.shuffle(found)
    return found


def asin(number: int) -> str:
    return f"B{number:09}"


def gz_lines(lines: Sequence[str | bytes]) -> bytes:
    raw = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines)
    return gzip.compress(raw, mtime=0)


def reviews(rows: Sequence[Event], long: bool = True) -> list[str]:
    """Lines of reviews of Amazon 2014 and 2018."""
    return [
        json.dumps(
            {
                "reviewerID": user,
                "asin": item,
                "reviewerName": "J. Döe",
                "helpful": [0, 1],
                "reviewText": 'Fits "well"\tand so on. ' * (3 if long else 0),
                "overall": rating,
                "summary": "ok",
                "unixReviewTime": time,
                "reviewTime": "01 1, 2019",
            }
        )
        for user, item, rating, time in rows
    ]


def metadata_2014(items: Sequence[str]) -> list[str]:
    """Lines of metadata: Python literals, every third strict JSON, every fourth without a title."""
    lines = []
    for number, item in enumerate(items):
        data: dict[str, Any] = {
            "asin": item,
            "categories": [["Sports & Outdoors", "Water Sports"], ["Sports & Outdoors", "Dance"]],
            "description": "Tom's 5\" knife &amp; sheath,\nblack\tor green",
            "price": 3.17 + number,
            "imUrl": f"http://ecx.images-amazon.com/images/I/{item}.jpg",
            "related": {"also_bought": ["B00JHONN1S"]},
            "brand": "Coxlures",
        }
        if number % 4:
            data["title"] = f'"Girls" Ballet Tutu {number}'
        lines.append(json.dumps(data) if number % 3 == 0 else repr(data))
    return lines


def image_records(items: Sequence[str], seed: int = 0) -> tuple[bytes, dict[str, np.ndarray]]:
    """A binary feature file, and what it says by item."""
    rng = np.random.default_rng(seed)
    rows = {item: rng.random(4096, dtype=np.float32) for item in items}
    return b"".join(item.encode() + row.astype("<f4").tobytes() for item, row in rows.items()), rows


def zipped(files: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def tarred(files: dict[str, str], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, text in files.items():
            content = text.encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


class Shop:
    """A category of Amazon 2014 on the server, and the arguments that fetch it from there."""

    def __init__(self, server: FileServer, category: str = "Sports_and_Outdoors") -> None:
        self.server, self.category = server, category
        self.arguments = ["amazon2014", f"--category={category}", f"--mirror={server.url}"]

    def address(self, role: str) -> str:
        return Amazon2014.addresses[role].format(self.category)

    def path(self, role: str) -> str:
        return "/" + self.address(role).split("/", 3)[3]

    def publish(self, rows: Sequence[Event], images: bool = False) -> None:
        items = sorted({item for _, item, _, _ in rows}, reverse=True)
        self.server.publish(self.address("reviews"), gz_lines(reviews(rows)))
        self.server.publish(self.address("metadata"), gz_lines(metadata_2014(items)))
        if images:
            content, self.image_rows = image_records(items[1:])
            self.server.publish(self.address("image"), content)
