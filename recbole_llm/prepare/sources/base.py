"""What a source defines: its files, and how interactions, items and features are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_llm.prepare.filters import Filters
from recbole_llm.prepare.interactions import InteractionLog
from recbole_llm.prepare.lines import LineCount
from recbole_llm.prepare.raw_files import Fetched, RawFile

#: Writes an item's cells, in the order of ``item_columns``; cells may be text, lists or numbers.
ItemWriter = Callable[..., None]


@dataclass(frozen=True)
class Option:
    """An option of a source on the command line, ``--<name>``.

    Attributes:
        name: name of the option, and its key in ``Source.from_options``.
        help: sentence for ``--help``; ``%(default)s`` stands for the default.
        choices: values that are allowed; empty: any, or those that ``from_options`` checks.
        required: whether the user must give it.
        default: value when the option is not given.
        is_flag: whether the option takes no value and is True when given.
    """

    name: str
    help: str
    choices: tuple[str, ...] = ()
    required: bool = False
    default: str | None = None
    is_flag: bool = False


class Size(NamedTuple):
    """Users, items and interactions of a dataset as somebody published them.

    Attributes:
        where: publication, such as "HeLLM, Table I".
        users: number of users.
        items: number of items.
        interactions: number of interactions.
        counts_one_less: whether the publication counts one interaction a user fewer.
        note: sentence that explains any difference.
    """

    where: str
    users: int
    items: int
    interactions: int
    counts_one_less: bool = False
    note: str = ""


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


class Source:
    """Base of the sources.

    Attributes:
        key: name of the source on the command line.
        HELP: one line for ``recbole_llm prepare --help``.
        options: options of the source's own.
        addresses: address of each file that can be fetched, by role; ``{}`` stands for the variant.
        published: sizes that were published for a dataset, by its default name.
        variant: category or size, or "".
        item_columns: columns of the ``.item`` file after ``item_id``, name to type; none: no file.
        text_columns: columns that describe an item, for its text modality.
        multi_hot_columns: modality to a column that is made into zeros and ones.
        settings: further settings of the dataset, such as how features are scaled.
        inter_columns: columns of the ``.inter`` file after the two identifiers.
        is_split: whether interactions come with a part (train, valid, test); filters, which would
            leave holes in the parts, are not offered then.
        is_local: whether all files are the user's own, and nothing is fetched.
        filters: default filters.
        notes: sentences for the user on what was read, known once the interactions are.
    """

    key: ClassVar[str]
    HELP: ClassVar[str]
    options: ClassVar[tuple[Option, ...]] = ()
    addresses: ClassVar[Mapping[str, str]] = {}
    published: ClassVar[Mapping[str, tuple[Size, ...]]] = {}
    variant: str = ""
    item_columns: Mapping[str, str] = {}
    text_columns: tuple[str, ...] = ()
    multi_hot_columns: Mapping[str, str] = {}
    settings: Mapping[str, Any] = {}
    inter_columns: tuple[str, ...] = ("rating", "timestamp")
    is_split: ClassVar[bool] = False
    is_local: ClassVar[bool] = False
    filters: Filters = Filters()
    notes: Sequence[str] = ()

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Source:
        """Return the source for the values of ``options``, by name.

        Raises:
            ValueError: a value is unknown, or a file that it names is not what is expected.
        """
        return cls(**options)

    @property
    def dataset(self) -> str:
        """Name of the dataset unless the user gives one."""
        return self.key

    def chosen(self) -> dict[str, Any]:
        """Return what the user chose of this source, for the manifest."""
        return {}

    def raw_files(self, folder: Path) -> list[RawFile]:
        """Return the files to be found in ``folder`` or fetched."""
        return []

    def raw_file(self, role: str) -> RawFile:
        """Return the file of ``addresses`` with this role."""
        address = self.addresses[role].format(self.variant)
        return RawFile(role, address, address.rpartition("/")[2])

    def local_files(self) -> dict[str, Fetched]:
        """Return the user's own files, by role."""
        return {}

    def read_interactions(
        self, files: Mapping[str, Fetched], log: InteractionLog
    ) -> dict[str, LineCount]:
        """Add every interaction to the log; return the lines read, by file name."""
        raise NotImplementedError

    def read_items(
        self, files: Mapping[str, Fetched], codes: Mapping[str, int], write: ItemWriter
    ) -> dict[str, LineCount]:
        """Write those items of ``codes`` (token to code) that the source describes, in its order.

        Returns:
            Lines read, by file name.
        """
        return {}

    def features(self, files: Mapping[str, Fetched]) -> dict[str, Feature]:
        """Return ready-made features by modality."""
        return {}


def npy_rows(path: Path, tokens: list[str]) -> Feature:
    """Return the rows of a ``.npy`` file as features of items.

    Args:
        path: array of floats, (items, width).
        tokens: item token of each row.

    Raises:
        ValueError: the file is no such array, or has another number of rows.
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
    if len(tokens) != len(array):
        raise ValueError(f"{path} has {len(array)} rows, expected {len(tokens)}, one an item.")
    return Feature(array.shape[1], array.dtype, zip(tokens, array, strict=True))
