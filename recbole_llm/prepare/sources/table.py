"""A user's own tables: interactions and, if there are any, items, as CSV or TSV."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recbole_llm.prepare.interactions import InteractionLog
from recbole_llm.prepare.lines import LineCount, for_each_row, read_header
from recbole_llm.prepare.raw_files import Fetched, local_file
from recbole_llm.prepare.sources.base import ItemWriter, Option, Source
from recbole_llm.tables import MISSING_NUMBERS

_SEPARATORS = (",", "\t", ";", "|")
_TIME_NAME = re.compile(r"(?i)time|date|created|_at$")
_RATING_NAME = re.compile(r"(?i)rating|stars|score")


class Table(Source):
    """Files with a header, plain or ``.gz``.

    Args:
        inter: file of interactions.
        item: file of items, or None; its columns other than the identifier become words.
        columns: name of the column for each of ``user``, ``item``, ``rating`` and ``time``; rating
            and time may be "". Time is Unix seconds or an ISO date, UTC unless it says otherwise.
        separator: one character, or "" for the one by which a file's header has these columns:
            a tab in ``.tsv`` and a comma in any other file are tried first. Between tabs a
            quotation mark is a letter, else cells are quoted as in CSV.
        decimal: decimal sign of ratings and times, "." or ",".

    A rating or a time may be empty; its interaction is kept.

    Texts are the user's own, so markup in them stays.

    Raises:
        ValueError: the separator is no single character, or the items' columns have names that
            cannot be written.
    """

    key = "csv"
    HELP = "your own tables"
    options = (
        Option("inter", "interactions: .csv, .tsv, or those as .gz", required=True),
        Option("item", "items; all columns but the identifier become words"),
        Option("user_column", "name in the header (default: %(default)s)", default="user_id"),
        Option("item_column", "the same (default: %(default)s)", default="item_id"),
        Option("rating_column", "the same; none: no ratings (default: none)", default="none"),
        Option(
            "time_column",
            "the same: Unix seconds or ISO dates; none: no time (default: none)",
            default="none",
        ),
        Option(
            "separator",
            "default: the comma, tab, semicolon or | by which a file's header has these columns",
            default="",
        ),
        Option(
            "decimal",
            "decimal sign of ratings and times (default: %(default)s)",
            (".", ","),
            default=".",
        ),
    )
    is_local = True

    def __init__(
        self,
        inter: Path,
        item: Path | None,
        columns: Mapping[str, str],
        separator: str = "",
        decimal: str = ".",
    ) -> None:
        if len(separator) > 1 or separator in ('"', "\n", "\r"):
            raise ValueError(
                f"separator must be one character, no quotation mark or line end, got "
                f"{separator!r}."
            )
        self.inter, self.item = inter, item
        self.columns, self.separator, self.decimal = dict(columns), separator, decimal
        self.notes: list[str] = []
        kept = (("rating", "rating"), ("time", "timestamp"))
        self.inter_columns = tuple(name for role, name in kept if self.columns[role])
        if item is not None:
            names = read_header(item, self._separator(item, "item"))
            self._column(item, names, "item")
            others = [name for name in names if name != self.columns["item"]]
            _check_names(item, names, others)
            self.item_columns = dict.fromkeys(others, "token_seq")
            self.text_columns = tuple(others)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "Table":
        """Return the source for two paths, the names of the columns and the separator."""
        item = None if options["item"] is None else Path(options["item"])
        columns = {role: options[f"{role}_column"] for role in ("user", "item", "rating", "time")}
        for role in ("rating", "time"):
            if str(columns[role]).lower() == "none":
                columns[role] = ""
        forms = options["separator"], options["decimal"]
        return cls(Path(options["inter"]), item, columns, *forms)

    @property
    def dataset(self) -> str:
        """The name of the interactions' file."""
        return self.inter.name.partition(".")[0]

    def chosen(self) -> dict[str, Any]:
        """Return the columns, the separator and the decimal sign."""
        forms = {"separator": self.separator, "decimal": self.decimal}
        return {"columns": self.columns, **forms}

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
            user, item = (self._column(self.inter, names, role) for role in ("user", "item"))
            has_rating, has_time = bool(self.columns["rating"]), bool(self.columns["time"])
            rating = self._column(self.inter, names, "rating") if has_rating else 0
            time = self._column(self.inter, names, "time") if has_time else 0
            self.notes = self._unused(names)
            decimal = self.decimal
            return lambda row: log.add(
                row[user],
                row[item],
                _number(row[rating], decimal) if has_rating else 0.0,
                _seconds(row[time], decimal) if has_time else 0.0,
            )

        separator = self._separator(self.inter, "user", "item")
        return {self.inter.name: for_each_row(self.inter, start, separator=separator)}

    def read_items(
        self, files: Mapping[str, Fetched], codes: Mapping[str, int], write: ItemWriter
    ) -> dict[str, LineCount]:
        """Read the items."""
        if self.item is None:
            return {}

        def start(names: list[str]) -> Callable[[list[str]], None]:
            token = names.index(self.columns["item"])

            def read(row: list[str]) -> None:
                if row[token] in codes:
                    write(row[token], *row[:token], *row[token + 1 :])

            return read

        separator = self._separator(self.item, "item")
        return {self.item.name: for_each_row(self.item, start, separator=separator)}

    def _separator(self, path: Path, *roles: str) -> str:
        """Return the separator by which the header of a file has the columns of these roles."""
        usual = "\t" if ".tsv" in path.suffixes else ","
        if self.separator:
            return self.separator
        expected = {self.columns[role] for role in roles}
        for separator in dict.fromkeys([usual, *_SEPARATORS]):
            if expected <= set(read_header(path, separator)):
                return separator
        return usual

    def _unused(self, names: list[str]) -> list[str]:
        """Return a note on the columns of interactions that are left out, if there are any."""
        unused = [name for name in names if name not in self.columns.values()]
        if not unused:
            return []
        hints = [
            f"--{role}_column={name} would read {name!r}"
            for role, words in (("time", _TIME_NAME), ("rating", _RATING_NAME))
            for name in unused
            if not self.columns[role] and words.search(name)
        ]
        text = f"{self.inter.name}: columns that are not read: {', '.join(map(repr, unused))}"
        return ["; ".join([text, *hints])]

    def _column(self, path: Path, names: list[str], role: str) -> int:
        if names.count(self.columns[role]) > 1:
            raise ValueError(
                f"{path} has {names.count(self.columns[role])} columns {self.columns[role]!r} "
                f"({role}). Rename all but one."
            )
        if self.columns[role] not in names:
            raise ValueError(
                f"{path} has no column {self.columns[role]!r} ({role}), it has: "
                f"{', '.join(names)}. --{role}_column= names the right one."
            )
        return names.index(self.columns[role])


def _check_names(path: Path, names: list[str], others: list[str]) -> None:
    """Check the names of columns that are written to the ``.item`` file.

    Raises:
        ValueError: a name cannot stand in its header, or two columns would have one name.
    """
    for number, name in enumerate(names, start=1):
        if not name:
            raise ValueError(
                f"{path}: column {number} has no name. Drop it (pandas: to_csv(..., index=False)), "
                f"or name it."
            )
        if not name.isprintable() or ":" in name or '"' in name:
            raise ValueError(
                f"{path}: column {name!r} holds a character that cannot stand in the header of an "
                f"atomic file (a colon, a quotation mark, a tab or a line end). Rename it."
            )
        if names.count(name) > 1:
            raise ValueError(
                f"{path} has {names.count(name)} columns {name!r}. Rename all but one."
            )
    if "item_id" in others:
        raise ValueError(
            f"{path}: column 'item_id' is not the identifier, --item_column names another one, and "
            f"the dataset would have two of this name. Rename it or drop it."
        )


def _number(text: str, decimal: str) -> float | None:
    """Return the number of a cell, None where it is empty.

    Raises:
        ValueError: the text is not a number.
    """
    text = text.strip()
    if text in MISSING_NUMBERS:
        return None
    if decimal == "," and "." not in text:
        text = text.replace(",", ".")
    elif decimal == ",":
        raise ValueError(f"{text!r} is not a number with a decimal comma")
    try:
        if "_" not in text:
            return float(text)
    except ValueError:
        pass
    hint = "; --decimal=, reads a decimal comma" if "," in text else ""
    raise ValueError(f"{text!r} is not a number{hint}")


def _seconds(text: str, decimal: str) -> float | None:
    """Return the Unix seconds of a cell, None where it is empty.

    Raises:
        ValueError: the text is neither a number nor an ISO date.
    """
    try:
        return _number(text, decimal)
    except ValueError as error:
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            raise ValueError(f"{error}, nor a date such as 2024-05-31") from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
