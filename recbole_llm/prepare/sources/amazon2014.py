"""Amazon's product data of 2014, which the papers use: 5-core reviews of a category.

Metadata are Python literals, one a line, or JSON.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_llm.prepare.lines import parse_json
from recbole_llm.prepare.raw_files import Fetched, RawFile
from recbole_llm.prepare.sources.amazon import Amazon, category_option, price, text
from recbole_llm.prepare.sources.base import Feature, Option, Size

_SNAP = "https://snap.stanford.edu/data/amazon/productGraph"
_CATEGORIES = tuple(
    """
    Amazon_Instant_Video Apps_for_Android Automotive Baby Beauty Books CDs_and_Vinyl
    Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry Digital_Music Electronics
    Grocery_and_Gourmet_Food Health_and_Personal_Care Home_and_Kitchen Kindle_Store
    Movies_and_TV Musical_Instruments Office_Products Patio_Lawn_and_Garden Pet_Supplies
    Sports_and_Outdoors Tools_and_Home_Improvement Toys_and_Games Video_Games
    """.split()
)
# Names under which papers know categories; any other is its own, in lower case.
_PAPER_NAMES = {
    "Sports_and_Outdoors": "sports",
    "Clothing_Shoes_and_Jewelry": "clothing",
    "Toys_and_Games": "toys",
}
_HELLM, _MLLMREC, _GALREC = "HeLLM, Table I", "MLLMRec, Table 1", "GAL-Rec, Table II"
_IMAGE_WIDTH = 4096
_RECORD = 10 + 4 * _IMAGE_WIDTH  # bytes: the ASIN, then little-endian float32
# Start of a literal: most items have no interaction here, and literals are slow to read.
_LITERAL_ASIN = re.compile(rb"""^\{['"]asin['"]: ['"]([^'"\\]+)['"]""")


class Amazon2014(Amazon):
    """The release of 2014.

    Args:
        category: one of ``categories``.
        image_features: whether the 4,096 image features an item are included (gigabytes).
    """

    key = "amazon2014"
    HELP = "reviews and metadata of a category, 5-core; the papers' Baby, Sports, ..."
    categories = _CATEGORIES
    options = (
        category_option(_CATEGORIES),
        Option("image_features", "also the image features (gigabytes)", is_flag=True),
    )
    addresses = {
        "reviews": f"{_SNAP}/categoryFiles/reviews_{{}}_5.json.gz",
        "metadata": f"{_SNAP}/categoryFiles/meta_{{}}.json.gz",
        "image": f"{_SNAP}/image_features/categoryFiles/image_features_{{}}.b",
    }
    published = {
        "baby": (Size(_MLLMREC, 19_445, 7_050, 160_792),),
        "sports": (
            Size(_HELLM, 35_598, 18_357, 260_739, counts_one_less=True),
            Size(_MLLMREC, 35_598, 18_357, 296_337),
        ),
        "clothing": (Size(_MLLMREC, 39_387, 23_033, 278_677),),
        "beauty": (
            Size(_HELLM, 22_363, 12_101, 176_139, counts_one_less=True),
            Size(_GALREC, 22_363, 12_101, 198_502),
        ),
        "toys": (
            Size(_HELLM, 19_412, 11_924, 148_185, counts_one_less=True),
            Size(_GALREC, 19_412, 11_924, 167_597),
        ),
    }

    def __init__(self, category: str, image_features: bool = False) -> None:
        super().__init__(category)
        self.image_features = image_features

    @property
    def dataset(self) -> str:
        """The papers' name of the category."""
        return _PAPER_NAMES.get(self.variant, self.variant.lower())

    def chosen(self) -> dict[str, Any]:
        """Return the category and whether the image features are included."""
        return {"category": self.variant, "image_features": self.image_features}

    def raw_files(self, folder: Path) -> list[RawFile]:
        """Return reviews, metadata and, if they are included, image features."""
        return super().raw_files(folder) + [self.raw_file("image")] * self.image_features

    def quick_token(self, line: bytes) -> str | None:
        """Return the token if the line is a literal that begins with it."""
        start = _LITERAL_ASIN.match(line)
        return None if start is None else start[1].decode()

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
        """Return the image features, if they are included."""
        if not self.image_features:
            return {}
        rows = _image_rows(files["image"].path)
        return {"image": Feature(_IMAGE_WIDTH, np.dtype("<f4"), rows)}


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
