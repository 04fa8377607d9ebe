"""What a source has to say: its files, and how interactions, items and features are read."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_llm.net.download import Fetched, RawFile
from recbole_llm.prepare.addresses import dataset_name
from recbole_llm.prepare.interactions import InteractionLog
from recbole_llm.prepare.lines import LineCount

#: Writes an item's cells, in the order of ``item_columns``; cells may be text, lists or numbers.
ItemWriter = Callable[..., None]


class Feature(NamedTuple):
    """Ready-made features of items.

    Attributes:
        width: numbers an item.
        dtype: float16, float32 or float64.
        rows: item token and its (width,) array, each item at most once, any order.
    """

    width: int
    dtype: Any
    rows: Iterator[tuple[str, NDArray[Any]]]


class Filters(NamedTuple):
    """What is left out; a source has its own defaults.

    Attributes:
        k_core: users and items have at least so many interactions; 0 or 1: no such filter.
        duplicates: of a repeated (user, item) pair, keep the ``first``, ``last`` or ``all``.
        min_rating: leave lower ratings out.
        since: leave earlier interactions out; a date, UTC.
        until: leave out what is on that date or later.
    """

    k_core: int = 0
    duplicates: str = "first"
    min_rating: float | None = None
    since: str | None = None
    until: str | None = None


class Source:
    """Base of the sources.

    Attributes:
        key: the name on the command line.
        variant: category or size, or "".
        item_columns: columns of the ``.item`` file after ``item_id``, name to type; none: no file.
        text_columns: those that describe an item, for its text modality.
        multi_hot_columns: modality to a column that is made into zeros and ones.
        inter_columns: columns of the ``.inter`` file after the two identifiers.
        is_split: whether interactions come with a part (train, valid, test).
        filters: the defaults.
    """

    key: ClassVar[str]
    variant: str = ""
    item_columns: Mapping[str, str] = {}
    text_columns: tuple[str, ...] = ()
    multi_hot_columns: Mapping[str, str] = {}
    inter_columns: tuple[str, ...] = ("rating", "timestamp")
    is_split: bool = False
    filters: Filters = Filters()

    @property
    def dataset(self) -> str:
        """The dataset's name unless the user gives one."""
        return dataset_name(self.key, self.variant)

    def options(self) -> dict[str, Any]:
        """Return what was asked of this source, for the manifest."""
        return {}

    def raw_files(self, folder: Path) -> list[RawFile]:
        """Return the files to be found in ``folder`` or fetched."""
        return []

    def local_files(self) -> dict[str, Fetched]:
        """Return the user's own files, by role."""
        return {}

    def read_interactions(
        self, files: Mapping[str, Fetched], log: InteractionLog
    ) -> dict[str, LineCount]:
        """Add every interaction to the log; return the lines read, by file name."""
        raise NotImplementedError

    def read_items(
        self, files: Mapping[str, Fetched], wanted: Mapping[str, int], write: ItemWriter
    ) -> dict[str, LineCount]:
        """Write the wanted items (token to code) that the source describes, in its order."""
        return {}

    def features(self, files: Mapping[str, Fetched]) -> dict[str, Feature]:
        """Return ready-made features by modality."""
        return {}


def npy_rows(path: Path, tokens: Iterator[str] | list[str]) -> Feature:
    """Return the rows of a ``.npy`` file as features of the items that ``tokens`` names in order.

    Raises:
        ValueError: it is no (items, width) array of floats, or has another number of rows.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a readable .npy array: {error}") from error
    kind = getattr(array, "dtype", None)
    if kind not in (np.float16, np.float32, np.float64) or array.ndim != 2 or not array.shape[1]:
        raise ValueError(
            f"{path} holds {kind} of shape {getattr(array, 'shape', None)}, expected floats of "
            f"shape (items, width)."
        )
    tokens = list(tokens)
    if len(tokens) != len(array):
        raise ValueError(f"{path} has {len(array)} rows, expected {len(tokens)}, one an item.")
    return Feature(array.shape[1], array.dtype, zip(tokens, array, strict=True))
