"""What Amazon's product data of 2014, 2018 and 2023 share, as J. McAuley's group publishes it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from recbole_llm.prepare.filters import Filters
from recbole_llm.prepare.interactions import InteractionLog
from recbole_llm.prepare.lines import LineCount, for_each_line, parse_json
from recbole_llm.prepare.markup import plain_text
from recbole_llm.prepare.raw_files import Fetched, RawFile
from recbole_llm.prepare.sources.base import ItemWriter, Option, Source
from recbole_llm.registry import suggest

_PRICE = re.compile(r"\d+(?:\.\d+)?")


def category_option(categories: tuple[str, ...]) -> Option:
    """Return the option that chooses one of a release's categories."""
    return Option("category", f"one of {', '.join(categories)}", required=True)


class Amazon(Source):
    """One category of a release.

    Args:
        category: one of ``categories``.

    Attributes:
        categories: names of the categories that the release has.

    Raises:
        ValueError: the release has no such category.
    """

    categories: ClassVar[tuple[str, ...]]
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

    def __init__(self, category: str) -> None:
        if category not in self.categories:
            raise ValueError(
                f"{self.key} has no category {category!r}."
                f"{suggest(category, list(self.categories))} "
                f"It has: {', '.join(self.categories)}."
            )
        self.variant = category

    @property
    def dataset(self) -> str:
        """Source and category, so that the dataset is not taken for the papers' of 2014."""
        return f"{self.key}-{self.variant.lower().replace('_', '-')}"

    def chosen(self) -> dict[str, Any]:
        """Return the category and whether the image features are included."""
        return {"category": self.variant, "image_features": False}

    def raw_files(self, folder: Path) -> list[RawFile]:
        """Return reviews and metadata."""
        return [self.raw_file("reviews"), self.raw_file("metadata")]

    def read_interactions(
        self, files: Mapping[str, Fetched], log: InteractionLog
    ) -> dict[str, LineCount]:
        """Read the reviews."""
        path = files["reviews"].path
        return {path.name: for_each_line(path, lambda line: log.add(*self.review(line)))}

    def read_items(
        self, files: Mapping[str, Fetched], codes: Mapping[str, int], write: ItemWriter
    ) -> dict[str, LineCount]:
        """Read the metadata."""
        path = files["metadata"].path

        def read(line: bytes) -> None:
            token = self.quick_token(line)
            if token is not None and token not in codes:
                return
            cells = self.item(line)
            if cells[0] in codes:
                write(*cells)

        return {path.name: for_each_line(path, read)}

    def review(self, line: bytes) -> tuple[str, str, float, float]:
        """Return user, item, rating and Unix seconds of a line of reviews."""
        data = parse_json(line)
        return data["reviewerID"], data["asin"], data["overall"], data["unixReviewTime"]

    def quick_token(self, line: bytes) -> str | None:
        """Return the item token of a line of metadata if it can be found without parsing."""
        return None

    def item(self, line: bytes) -> tuple[Any, ...]:
        """Return the token and the cells of a line of metadata."""
        raise NotImplementedError


def text(value: Any) -> str:
    """Return a text, or a list of paragraphs, without markup."""
    parts = value if isinstance(value, list) else [value]
    return " ".join(plain_text(part) for part in parts if isinstance(part, str))


def first(values: Any) -> Any:
    """Return the first of a list, None of anything else."""
    return values[0] if isinstance(values, list) and values else None


def price(value: Any) -> float | None:
    """Return a price in dollars; a range or a text without a number has none."""
    found = _PRICE.findall(str(value).replace(",", ""))
    return float(found[0]) if len(found) == 1 else None
