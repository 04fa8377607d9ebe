"""A dataset folder of the MMRec toolbox: its split, its features, its maps of identifiers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llm.prepare.filters import Filters
from recbole_llm.prepare.interactions import InteractionLog
from recbole_llm.prepare.lines import LineCount, for_each_row, read_header
from recbole_llm.prepare.raw_files import Fetched, local_file
from recbole_llm.prepare.sources.base import Feature, Option, Size, Source, npy_rows

_MLLMREC = "MLLMRec, Table 1"
_FEATURES = {"image": "image_feat.npy", "text": "text_feat.npy"}
_MAPS = {"userID": "u_id_mapping.csv", "itemID": "i_id_mapping.csv"}


class MMRec(Source):
    """``<x>.inter`` with ``userID itemID rating timestamp x_label``, and the files next to it.

    Args:
        folder: folder of the files.

    Raises:
        ValueError: the folder does not hold exactly one ``.inter`` file.
    """

    key = "mmrec"
    HELP = "a dataset folder of the MMRec toolbox, its split kept"
    options = (Option("path", "folder with the .inter file", required=True),)
    published = {
        "baby": (Size(_MLLMREC, 19_445, 7_050, 160_792),),
        "sports": (Size(_MLLMREC, 35_598, 18_357, 296_337),),
        "clothing": (Size(_MLLMREC, 39_387, 23_033, 278_677),),
    }
    is_split = True
    is_local = True
    filters = Filters(duplicates="all")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        inter = sorted(folder.glob("*.inter"))
        if len(inter) != 1:
            found = ", ".join(path.name for path in inter) or "none"
            raise ValueError(
                f"{folder} must hold one .inter file of the MMRec toolbox, found {found}."
            )
        self.inter = inter[0]
        names = read_header(self.inter, "\t")
        if not {"userID", "itemID", "x_label"} <= set(names):
            raise ValueError(
                f"{self.inter}: its header is {' '.join(names)[:200]!r}, expected the toolbox's: "
                f"userID, itemID, x_label, and perhaps rating and timestamp, tab separated."
            )
        self.inter_columns = tuple(name for name in ("rating", "timestamp") if name in names)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "MMRec":
        """Return the source for ``path``."""
        return cls(Path(options["path"]))

    @property
    def dataset(self) -> str:
        """The name of the ``.inter`` file."""
        return self.inter.stem

    def local_files(self) -> dict[str, Fetched]:
        """Return the interactions, and the maps and features that exist."""
        files = {"inter": self.inter}
        for role, name in {**_MAPS, **_FEATURES}.items():
            if (self.folder / name).is_file():
                files[role] = self.folder / name
        return {role: local_file(role, path) for role, path in files.items()}

    def read_interactions(
        self, files: Mapping[str, Fetched], log: InteractionLog
    ) -> dict[str, LineCount]:
        """Read the interactions with their part; numbers become the original identifiers."""
        users, items = (_read_map(files.get(column)) for column in _MAPS)

        def start(names: list[str]) -> Callable[[list[str]], None]:
            column_of = {name: column for column, name in enumerate(names)}

            def read(row: list[str]) -> None:
                part = int(row[column_of["x_label"]])
                if part not in (0, 1, 2):
                    raise ValueError(f"x_label is {part}, expected 0, 1 or 2")
                user, item = row[column_of["userID"]], row[column_of["itemID"]]
                numbers = {
                    key: float(row[column_of[name]])
                    for key, name in (("rating", "rating"), ("time", "timestamp"))
                    if name in column_of
                }
                log.add(
                    users[user] if users else user,
                    items[item] if items else item,
                    part=part,
                    **numbers,
                )

            return read

        return {self.inter.name: for_each_row(self.inter, start, separator="\t")}

    def features(self, files: Mapping[str, Fetched]) -> dict[str, Feature]:
        """Return the features: row r is the item with itemID r."""
        items = _read_map(files.get("itemID"))
        features: dict[str, Any] = {}
        for name in _FEATURES:
            if name in files:
                path = files[name].path
                n_rows = len(np.load(path, mmap_mode="r", allow_pickle=False))
                numbers = [str(row) for row in range(n_rows)]
                # a row whose number is not in the map belongs to no item
                tokens = [items.get(n, f"itemID {n}") for n in numbers] if items else numbers
                features[name] = npy_rows(path, tokens)
        return features


def _read_map(file: Fetched | None) -> dict[str, str]:
    """Return number to original identifier of a map (``original<TAB>number``), {} without one.

    Raises:
        ValueError: a line of the map is malformed.
    """
    originals: dict[str, str] = {}

    def read(row: list[str]) -> None:
        original, number = row
        originals[str(int(number))] = original

    if file is not None:
        count = for_each_row(file.path, lambda names: read, separator="\t")
        if count.malformed:
            raise ValueError(
                f"{file.path}: line {count.first_malformed[0]} is no original identifier, tab, "
                f"number: {count.problem}."
            )
    return originals
