"""The items of a dataset: their tokens, the rows of feature files, and their text."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from recbole_llm.config import Config
from recbole_llm.data.atomic import read_item_columns
from recbole_llm.files import read_text


class Items(NamedTuple):
    """The items of a run, for which features are read or made.

    Attributes:
        config: the run's settings.
        tokens: item tokens by RecBole-internal id; ``tokens[0]`` is padding.
    """

    config: Config
    tokens: Sequence[str]

    @property
    def folder(self) -> Path:
        """The dataset's folder."""
        return Path(self.config["data_path"])

    @property
    def item_file(self) -> Path:
        """Path of the dataset's ``.item`` file, which may be missing."""
        return self.folder / f"{self.config['dataset']}.item"

    @property
    def ids_file(self) -> Path:
        """Path of the list of item tokens in the row order of feature files; may be missing."""
        return self.folder / "item_ids.txt"


def listed_rows(items: Items) -> tuple[list[str], Path]:
    """Return the item token of each row of a feature file, and the file that says so.

    Raises:
        FileNotFoundError: neither ``item_ids.txt`` nor the ``.item`` file exists.
        ValueError: ``item_ids.txt`` names an item twice, or the ``.item`` file is malformed.
    """
    if items.ids_file.is_file():
        tokens = read_text(items.ids_file).rstrip("\n").split("\n")
        token, count = Counter(tokens).most_common(1)[0]
        if count > 1:
            raise ValueError(
                f"{items.ids_file} names item {token!r} {count} times, expected each item once, so "
                f"that each has one row of a feature file."
            )
        return tokens, items.ids_file
    if not items.item_file.is_file():
        raise FileNotFoundError(
            f"neither {items.ids_file} nor {items.item_file.name} exists, so nothing says "
            f"which item each row is. Write {items.ids_file.name}: one item token a line, in row "
            f"order."
        )
    return list(read_item_columns(items.item_file, [], items.config).index), items.item_file


def item_texts(columns: Sequence[str], items: Items) -> list[str]:
    """Return each item's words in ``.item`` columns joined by ", ", padding left out.

    An item without words, or without a row in the file, gets "".
    """
    frame = item_cells(columns, items)
    separator = items.config["seq_separator"]
    return [
        ", ".join(filter(None, (" ".join(words_of(cell, separator)) for cell in row)))
        for row in frame.itertuples(index=False)
    ]


def item_cells(columns: Sequence[str], items: Items) -> pd.DataFrame:
    """Return text cells of the ``.item`` file: one row an item, by internal id, without padding."""
    frame = read_item_columns(items.item_file, columns, items.config)
    return frame.reindex([str(token) for token in items.tokens[1:]], fill_value="")


def words_of(cell: str, separator: str) -> list[str]:
    """Return the words of a cell, empty ones left out."""
    return [word for word in cell.split(separator) if word]
