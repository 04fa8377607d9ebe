"""A user's own tables: interactions and, if there are any, items, as CSV or TSV."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from recbole_llm.net.download import Fetched, local_file
from recbole_llm.prepare.interactions import InteractionLog
from recbole_llm.prepare.lines import LineCount, for_each_row, read_header
from recbole_llm.prepare.sources.base import ItemWriter, Source


class Table(Source):
    """Files with a header, plain or ``.gz``.

    Args:
        inter: interactions.
        item: items, or None; its columns other than the identifier become words.
        columns: ``user``, ``item``, ``rating``, ``time`` to the name of the column; rating and
            time may be "". Time is Unix seconds or an ISO date, UTC unless it says otherwise.
        separator: one character, or "" for a tab in ``.tsv`` and a comma in any other file.
    """

    key: ClassVar[str] = "csv"

    def __init__(
        self, inter: Path, item: Path | None, columns: Mapping[str, str], separator: str = ""
    ) -> None:
        self.inter, self.item = inter, item
        self.columns, self.separator = dict(columns), separator
        kept = (("rating", "rating"), ("time", "timestamp"))
        self.inter_columns = tuple(name for role, name in kept if self.columns[role])
        if item is not None:
            names = read_header(item, self._separator(item))
            self._place(item, names, "item")
            others = [name for name in names if name != self.columns["item"]]
            self.item_columns = dict.fromkeys(others, "token_seq")
            self.text_columns = tuple(others)

    @property
    def dataset(self) -> str:
        """The name of the interactions' file."""
        return self.inter.name.partition(".")[0]

    def options(self) -> dict[str, Any]:
        """Return the columns and the separator."""
        return {"columns": self.columns, "separator": self.separator}

    def local_files(self) -> dict[str, Fetched]:
        """Return the files."""
        files = {"inter": local_file("inter", self.inter)}
        if self.item is not None:
            files["item"] = local_file("item", self.item)
        return files

    def read_interactions(
        self, files: Mapping[str, Fetched], log: InteractionLog
    ) -> dict[str, LineCount]:
        """Read the interactions."""

        def start(names: list[str]) -> Callable[[list[str]], None]:
            user, item = (self._place(self.inter, names, role) for role in ("user", "item"))
            has_rating, has_time = bool(self.columns["rating"]), bool(self.columns["time"])
            rating = self._place(self.inter, names, "rating") if has_rating else 0
            time = self._place(self.inter, names, "time") if has_time else 0
            return lambda row: log.add(
                row[user],
                row[item],
                float(row[rating]) if has_rating else 0.0,
                _seconds(row[time]) if has_time else 0.0,
            )

        separator = self._separator(self.inter)
        return {self.inter.name: for_each_row(self.inter, start, separator=separator)}

    def read_items(
        self, files: Mapping[str, Fetched], wanted: Mapping[str, int], write: ItemWriter
    ) -> dict[str, LineCount]:
        """Read the items."""
        if self.item is None:
            return {}

        def start(names: list[str]) -> Callable[[list[str]], None]:
            place = names.index(self.columns["item"])

            def use(row: list[str]) -> None:
                if row[place] in wanted:
                    write(row[place], *row[:place], *row[place + 1 :])

            return use

        separator = self._separator(self.item)
        return {self.item.name: for_each_row(self.item, start, separator=separator)}

    def _separator(self, path: Path) -> str:
        return self.separator or ("\t" if ".tsv" in path.suffixes else ",")

    def _place(self, path: Path, names: list[str], role: str) -> int:
        if self.columns[role] not in names:
            raise ValueError(
                f"{path} has no column {self.columns[role]!r} ({role}), it has: "
                f"{', '.join(names)}. --{role}_column= names the right one."
            )
        return names.index(self.columns[role])


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
