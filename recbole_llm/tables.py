"""Tables without quoting, such as RecBole's atomic files: every line is a row, every row whole.

A line ends with a line feed, a carriage return, or both. A line without any character is no row.
A byte order mark before the header is left out.
"""

import codecs
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

_TYPES = ("token", "token_seq", "float", "float_seq")
_EXAMPLE = "user_id:token<TAB>item_id:token..."
_BLOCK = 1 << 18  # bytes checked at a time
_N_SHOWN = 5

#: Words that stand for a missing number; a name is missing only where its cell is empty.
MISSING_NUMBERS = (
    *("", "NA", "N/A", "n/a", "<NA>", "#NA", "#N/A", "#N/A N/A", "NULL", "null", "None"),
    *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)


def parse_header(path: Path, separator: str, encoding: str | None) -> dict[str, str]:
    """Return the columns of an atomic file: name to type, in file order.

    Raises:
        ValueError: a column is not ``name:type`` with a type that RecBole knows, two columns have
            one name, or the file is not in this encoding.
    """
    number, line = next(_lines(path, encoding), (1, ""))
    if number > 1:
        raise ValueError(f"{path}: line 1 is blank, expected a header such as {_EXAMPLE}.")
    columns: dict[str, str] = {}
    for column in line.split(separator):
        name, _, kind = column.partition(":")
        if not name or kind not in _TYPES:
            raise ValueError(
                f"{path}: the header holds {column[:200]!r}, expected name:type with a type of "
                f"{', '.join(_TYPES)}, for example {_EXAMPLE}; the line is {line[:200]!r}."
            )
        if name in columns:
            raise ValueError(
                f"{path}: the header holds two columns {name!r}. Rename one of them or drop it."
            )
        columns[name] = kind
    return columns


def count_rows(path: Path, n_columns: int, separator: str, encoding: str | None) -> int:
    """Count the rows of a table, and check that each has as many cells as the header.

    Time: a few passes over the bytes. Memory: one block and the longest line.

    Args:
        path: table with a header.
        n_columns: number of columns in the header.
        separator: text between two cells.
        encoding: encoding of the table; None is UTF-8.

    Returns:
        Number of lines after the header that hold a character.

    Raises:
        ValueError: a line has more or fewer cells, the file ends in the middle of a line, or it
            holds a zero byte or is not in this encoding; the message names the line.
    """
    utf8 = _text_encoding(encoding) == "utf-8-sig"
    # In other encodings a byte of a longer character may look like a letter, but not like a tab.
    if len(separator) == 1 and (ord(separator) < 0x40 or (utf8 and separator.isascii())):
        n_rows = _count_regular(path, n_columns, separator.encode())
        if n_rows is not None:
            return n_rows
    return _count_one_by_one(path, n_columns, separator, encoding)


def check_count(path: Path, n_read: int, n_rows: int) -> None:
    """Check that every row was read.

    Args:
        path: file that was read, for the message.
        n_read: number of rows that were read.
        n_rows: number of rows that ``count_rows`` found.

    Raises:
        ValueError: the numbers differ.
    """
    if n_read != n_rows:
        raise ValueError(f"{path}: {n_rows:,} lines after the header are read as {n_read:,} rows.")


def check_values(
    path: Path,
    frame: "pd.DataFrame",
    names: Sequence[str],
    numbers: Sequence[str],
    encoding: str | None,
) -> None:
    """Check the cells on which results depend.

    Args:
        path: file that was read, for messages.
        frame: rows of the file, in its order.
        names: columns in which no name may be missing.
        numbers: columns in which no number may be missing; no other may be infinite.
        encoding: encoding of the file; None is UTF-8.

    Raises:
        ValueError: a name or number is missing, or a number is infinite; the message has the lines.
    """
    for column in frame:
        values = frame[column]
        if column in names or column in numbers:
            missing = np.flatnonzero(values.isna().to_numpy())
            if missing.size:
                raise ValueError(
                    _bad_cells(path, column, "is empty or no number", missing, encoding)
                )
        if values.dtype == np.float64:
            infinite = np.flatnonzero(np.isinf(values.to_numpy()))
            if infinite.size:
                raise ValueError(_bad_cells(path, column, "is infinite", infinite, encoding))


def first_fault(
    path: Path, columns: dict[str, str], separator: str, encoding: str | None
) -> str | None:
    """Return what is wrong with the first number that cannot be read, or None.

    Args:
        path: table whose lines were counted.
        columns: name to type of the columns that are read, and of those before them.
        separator: text between two cells.
        encoding: encoding of the table; None is UTF-8.
    """
    lines = _lines(path, encoding)
    next(lines)
    for number, line in lines:
        for cell, (name, kind) in zip(line.split(separator), columns.items(), strict=False):
            words = {"float": [cell], "float_seq": cell.split()}.get(kind, [])
            for word in words:
                if word not in MISSING_NUMBERS and not _is_number(word):
                    hint = ", and a quotation mark is a letter like any other" * ('"' in word)
                    return f"line {number}: column {name!r}, {kind}, holds {word[:100]!r}{hint}"
    return None


def _is_number(text: str) -> bool:
    """Return whether pandas reads the text as a float: 1_000 and 1e999 are none."""
    try:
        is_finite = np.isfinite(float(text))
    except ValueError:
        return False
    return "_" not in text and bool(is_finite or not any(letter.isdigit() for letter in text))


def _bad_cells(
    path: Path, column: object, fault: str, rows: "np.ndarray", encoding: str | None
) -> str:
    shown = set((rows[:_N_SHOWN] + 1).tolist())  # the header is line 0 of those that are not blank
    lines = (number for row, (number, _) in enumerate(_lines(path, encoding)) if row in shown)
    numbers = ", ".join(str(next(lines)) for _ in shown)
    return (
        f"{path}: column {str(column)!r} {fault} in {len(rows):,} rows (first: line {numbers}). "
        f"Correct or remove these lines; the value decides which results come out."
    )


def _text_encoding(encoding: str | None) -> str:
    """Return the encoding, without its byte order mark if it is UTF-8."""
    try:
        name = codecs.lookup(encoding or "utf-8").name
    except LookupError as error:
        raise ValueError(f"encoding: Python knows no encoding {encoding!r}.") from error
    return "utf-8-sig" if name == "utf-8" else name


def _lines(path: Path, encoding: str | None) -> Iterator[tuple[int, str]]:
    """Yield number (from 1) and text of each line that is not blank."""
    number = 0
    try:
        with path.open(encoding=_text_encoding(encoding)) as file:
            for number, line in enumerate(file, start=1):
                if line != "\n":
                    yield number, line.removesuffix("\n")
    except UnicodeError as error:
        raise ValueError(
            f"{path}: near line {number + 1}: the text is not in the encoding "
            f"{encoding or 'utf-8'} ({error}). `encoding` sets another one."
        ) from error


def _count_regular(path: Path, n_columns: int, separator: bytes) -> int | None:
    """Count the rows; None if some line is not regular, or the header holds no line end."""
    n_lines, rest = 0, b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            if block.endswith(b"\r"):
                block += file.read(1)  # both bytes of a line end are in one block
            if b"\0" in block:
                return None
            if b"\r" in block:
                block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            whole, line_end, rest = (rest + block).rpartition(b"\n")
            counted = _whole_lines(whole + line_end, n_columns, separator)
            if counted is None:
                return None
            n_lines += counted
    counted = _whole_lines(rest + b"\n" if rest else b"", n_columns, separator)
    return None if counted is None or not n_lines + counted else n_lines + counted - 1


def _whole_lines(text: bytes, n_columns: int, separator: bytes) -> int | None:
    """Count lines that all have ``n_columns`` cells; None if one has more or fewer."""
    marks = text.translate(None, bytes(set(range(256)) - {ord("\n"), *separator}))
    n_lines, left = divmod(len(marks), n_columns)
    if n_columns > 1 and not left and marks == (separator * (n_columns - 1) + b"\n") * n_lines:
        return n_lines
    if text.startswith(b"\n") or b"\n\n" in text:
        return _whole_lines(re.sub(rb"\n+", b"\n", text).removeprefix(b"\n"), n_columns, separator)
    return n_lines if n_columns == 1 and separator not in marks else None


def _count_one_by_one(path: Path, n_columns: int, separator: str, encoding: str | None) -> int:
    n_lines = number = n_cells = 0
    for number, line in _lines(path, encoding):
        n_lines += 1
        n_cells = line.count(separator) + 1
        if "\0" in line:
            raise ValueError(
                f"{path}: line {number} holds a zero byte: the file is damaged, or not in the "
                f"encoding {encoding or 'utf-8'}."
            )
        if n_cells != n_columns:
            raise ValueError(_wrong_cells(path, number, n_cells, n_columns))
    if not n_lines:
        raise ValueError(f"{path} is empty, expected a header such as {_EXAMPLE}.")
    return n_lines - 1


def _wrong_cells(path: Path, number: int, n_cells: int, n_columns: int) -> str:
    text = f"{path}: line {number} has {n_cells} cells, expected {n_columns} as in the header."
    if n_cells > n_columns:
        return f"{text} Does a cell hold the separator?"
    return f"{text} Was the file cut off, or does a cell hold a line end?"
