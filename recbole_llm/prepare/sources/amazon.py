"""Amazon's product data of 2014, 2018 and 2023, as J. McAuley's group publishes it.

2014 and 2018: the 5-core reviews of a category. 2023: all its reviews. Metadata of 2014 are Python
literals, one a line, and the rest is JSON.
"""

import ast
import html
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recbole_llm.net.download import Fetched, RawFile
from recbole_llm.prepare.addresses import raw_file
from recbole_llm.prepare.interactions import InteractionLog
from recbole_llm.prepare.lines import LineCount, for_each_line, parse_json
from recbole_llm.prepare.sources.base import Feature, Filters, ItemWriter, Source

_IMAGE_WIDTH = 4096
_RECORD = 10 + 4 * _IMAGE_WIDTH  # bytes: the ASIN, then little-endian float32
# What a line of metadata begins with: most items are not wanted, and literals are slow to read.
_LITERAL_ASIN = re.compile(rb"""^\{['"]asin['"]: ['"]([^'"\\]+)['"]""")
_PRICE = re.compile(r"\d+(?:\.\d+)?")


class Amazon(Source):
    """One category.

    Args:
        category: one of ``VARIANTS``.
        image_features: also fetch the 4,096 image features of 2014 (gigabytes).
    """

    item_columns = {
        "title": "token_seq",
        "brand": "token",
        "categories": "token_seq",
        "description": "token_seq",
        "price": "float",
        "image_url": "token",
    }
    text_columns = ("title", "brand", "categories", "description")
    filters = Filters(k_core=5)

    def __init__(self, category: str, image_features: bool = False) -> None:
        self.variant = category
        self.image_features = image_features

    def options(self) -> dict[str, Any]:
        """Return the category and whether features are asked for."""
        return {"category": self.variant, "image_features": self.image_features}

    def raw_files(self, folder: Path) -> list[RawFile]:
        """Return reviews, metadata and, if asked for, image features."""
        roles = ["reviews", "metadata"] + ["image"] * self.image_features
        return [raw_file(self.key, role, self.variant) for role in roles]

    def read_interactions(
        self, files: Mapping[str, Fetched], log: InteractionLog
    ) -> dict[str, LineCount]:
        """Read the reviews."""
        path = files["reviews"].path
        return {path.name: for_each_line(path, lambda line: log.add(*self.review(line)))}

    def read_items(
        self, files: Mapping[str, Fetched], wanted: Mapping[str, int], write: ItemWriter
    ) -> dict[str, LineCount]:
        """Read the metadata."""
        path = files["metadata"].path

        def use(line: bytes) -> None:
            start = _LITERAL_ASIN.match(line)
            if start is not None and start[1].decode() not in wanted:
                return
            item = self.item(line)
            if item[0] in wanted:
                write(*item)

        return {path.name: for_each_line(path, use)}

    def review(self, line: bytes) -> tuple[str, str, float, float]:
        """Return user, item, rating and Unix seconds of a line of reviews."""
        data = parse_json(line)
        return data["reviewerID"], data["asin"], data["overall"], data["unixReviewTime"]

    def item(self, line: bytes) -> tuple[Any, ...]:
        """Return the token and the cells of a line of metadata."""
        raise NotImplementedError


class Amazon2014(Amazon):
    """The release of 2014, which the papers use."""

    key: ClassVar[str] = "amazon2014"

    def item(self, line: bytes) -> tuple[Any, ...]:
        """Return the token and the cells; the line is JSON or a Python literal."""
        try:
            data = parse_json(line)
        except ValueError:
            data = ast.literal_eval(line.decode("utf-8"))
        return (
            data["asin"],
            text(data.get("title")),
            text(data.get("brand")),
            [text(name) for path in data.get("categories") or [] for name in path],
            text(data.get("description")),
            price(data.get("price")),
            data.get("imUrl"),
        )

    def features(self, files: Mapping[str, Fetched]) -> dict[str, Feature]:
        """Return the image features, if they were asked for."""
        if not self.image_features:
            return {}
        rows = _image_rows(files["image"].path)
        return {"image": Feature(_IMAGE_WIDTH, np.dtype("<f4"), rows)}


class Amazon2018(Amazon):
    """The release of 2018."""

    key: ClassVar[str] = "amazon2018"

    def item(self, line: bytes) -> tuple[Any, ...]:
        """Return the token and the cells."""
        data = parse_json(line)
        images = data.get("imageURLHighRes") or data.get("imageURL")
        return (
            data["asin"],
            text(data.get("title")),
            text(data.get("brand")),
            [text(name) for name in data.get("category") or []],
            text(data.get("description")),
            price(data.get("price")),
            first(images),
        )


class Amazon2023(Amazon):
    """The release of 2023: items are parents of variants, time is in milliseconds."""

    key: ClassVar[str] = "amazon2023"

    def review(self, line: bytes) -> tuple[str, str, float, float]:
        """Return user, parent item, rating and Unix seconds."""
        data = parse_json(line)
        return data["user_id"], data["parent_asin"], data["rating"], data["timestamp"] / 1000

    def item(self, line: bytes) -> tuple[Any, ...]:
        """Return the token and the cells."""
        data = parse_json(line)
        image = first(data.get("images")) or {}
        return (
            data["parent_asin"],
            text(data.get("title")),
            text(data.get("store")),
            [text(name) for name in data.get("categories") or []],
            text(data.get("description")),
            price(data.get("price")),
            image.get("hi_res") or image.get("large"),
        )


def text(value: Any) -> str:
    """Return a text, or a list of paragraphs, without HTML's character references."""
    parts = value if isinstance(value, list) else [value]
    return html.unescape(" ".join(part for part in parts if isinstance(part, str)))


def first(values: Any) -> Any:
    """Return the first of a list, None of anything else."""
    return values[0] if isinstance(values, list) and values else None


def price(value: Any) -> float | None:
    """Return a price in dollars; a range or a text without a number has none."""
    found = _PRICE.findall(str(value).replace(",", ""))
    return float(found[0]) if len(found) == 1 else None


def _image_rows(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield token and features of each record of a binary feature file.

    Raises:
        ValueError: the file does not hold whole records.
    """
    size = path.stat().st_size
    if size % _RECORD:
        raise ValueError(
            f"{path} is truncated: {size:,} bytes are not a multiple of {_RECORD:,} (an ASIN of 10 "
            f"bytes and {_IMAGE_WIDTH} float32). Remove it, and fetch it again."
        )
    with path.open("rb") as file:
        while record := file.read(_RECORD):
            yield record[:10].decode("ascii", "replace"), np.frombuffer(record, "<f4", offset=10)
