"""Raw files line by line in bounded memory: plain, gzip, or a member of a zip or tar archive."""

import csv
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jiter
from tqdm import tqdm

#: Exceptions that a parser may raise for a malformed line.
MALFORMED = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RecursionError,
    MemoryError,
    SyntaxError,
)
#: Exceptions by which an archive says that it is damaged, encrypted or of an unknown kind.
_ARCHIVE = (
    zlib.error,
    lzma.LZMAError,
    EOFError,
    zipfile.BadZipFile,
    tarfile.TarError,
    RuntimeError,
)
_BLOCK = 1 << 20  # bytes read at a time
_EXPANDED = 16 << 20  # bytes decompressed at a time
_LONGEST = 64 << 20  # bytes of a line
_N_SHOWN = 5


@dataclass
class LineCount:
    """Lines of a raw file that were read, and the malformed ones among them.

    Attributes:
        read: number of lines that are not blank, the header left out.
        malformed: number of lines among them that were skipped.
        first_malformed: line numbers of the first five that were skipped, counted from 1.
        problem: error of the first one.
    """

    read: int = 0
    malformed: int = 0
    first_malformed: list[int] = field(default_factory=list)
    problem: str = ""

    def skip(self, number: int, error: BaseException) -> None:
        """Count line ``number`` as malformed."""
        self.malformed += 1
        if len(self.first_malformed) < _N_SHOWN:
            self.first_malformed.append(number)
        if not self.problem:
            text = f"no field {error}" if isinstance(error, KeyError) else str(error)
            self.problem = text or type(error).__name__


def for_each_line(
    path: Path, read: Callable[[bytes], object], member: str | None = None, header: int = 0
) -> LineCount:
    """Call a function on every line that is not blank; lines on which it raises are skipped.

    Args:
        path: plain file, ``.gz`` file, or archive.
        read: function that gets a line without its end.
        member: name of the file in the archive.
        header: number of lines at the start that are left out.

    Returns:
        Counts of the lines read and skipped.

    Raises:
        ValueError: more than half of the lines are malformed, or the file is damaged.
    """
    count = LineCount()
    for number, line in enumerate(_lines(path, member), start=1):
        if number <= header or not line.strip():
            continue
        count.read += 1
        try:
            read(line)
        except MALFORMED as error:
            count.skip(number, error)
    return _checked(path, count)


def _checked(path: Path, count: LineCount) -> LineCount:
    if 2 * count.malformed > count.read:
        raise _unexpected(path, count)
    return count


def _unexpected(path: Path, count: LineCount) -> ValueError:
    return ValueError(
        f"{path}: {count.malformed} of {count.read} lines are not what is expected there "
        f"(first: line {count.first_malformed[0]}: {count.problem}). Is it the right file?"
    )


def parse_json(line: bytes) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        ValueError: the line is not JSON.
    """
    return jiter.from_json(line)


def for_each_row(
    path: Path,
    start: Callable[[list[str]], Callable[[list[str]], object]],
    member: str | None = None,
    separator: str = ",",
    has_header: bool = True,
) -> LineCount:
    """Call a function on every row of a table; rows on which it raises are counted and skipped.

    Args:
        path: file as in ``for_each_line``; UTF-8. Between tabs a quotation mark is a letter; with
            any other separator cells are quoted as in CSV, and no cell holds a line end.
        start: function that gets the names of the columns ([] without a header) and returns the
            function that gets each row.
        member: name of the file in the archive.
        separator: character between cells.
        has_header: whether the first line names the columns.

    Returns:
        Counts of the rows read and skipped.

    Raises:
        ValueError: more than half of the rows are malformed, a row has more or fewer cells than
            the header, a quotation mark is not closed in its line, or the file is damaged or empty.
    """
    count, n_misfits = LineCount(), 0
    rows = _rows(path, separator, member)
    names = _header(path, rows) if has_header else []
    read = start(names)
    for number, row in enumerate(rows, start=1 + has_header):
        if not row:
            continue
        count.read += 1
        try:
            if names and len(row) != len(names):
                n_misfits += 1
                raise ValueError(f"{len(row)} cells, {len(names)} columns")
            read(row)
        except MALFORMED as error:
            count.skip(number, error)
    if n_misfits:
        raise _unexpected(path, count)
    return _checked(path, count)


def read_header(path: Path, separator: str) -> list[str]:
    """Return the names of a table's columns.

    Raises:
        ValueError: the file is empty.
    """
    return _header(path, _rows(path, separator, None))


def find_member(path: Path, name: str) -> str:
    """Return the member of an archive whose file name is ``name``, whatever folder it is in.

    Raises:
        ValueError: there is none, or the archive is damaged.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        else:
            with tarfile.open(path) as tar:
                names = tar.getnames()
    except (*_ARCHIVE, OSError) as error:
        raise _damaged(path, error) from error
    for member in names:
        if member.rpartition("/")[2] == name:
            return member
    raise ValueError(f"{path} holds no {name}, it holds: {', '.join(names[:20])}.")


def _rows(path: Path, separator: str, member: str | None) -> Iterator[list[str]]:
    """Yield the cells of every line, [] of a blank one."""
    csv.field_size_limit(_LONGEST)
    texts = (line.decode("utf-8", "surrogateescape") + "\n" for line in _lines(path, member))
    if separator == "\t":
        reader = csv.reader(texts, delimiter=separator, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(texts, delimiter=separator)
    n_before = 0
    try:
        for row in reader:
            # A quoted cell that is still open takes in its line end, and the lines that follow.
            if reader.line_num > n_before + 1 or (row and row[-1].endswith("\n")):
                raise _open_quote(path, n_before + 1)
            n_before = reader.line_num
            yield row
    except csv.Error as error:
        raise _open_quote(path, n_before + 1) from error


def _open_quote(path: Path, number: int) -> ValueError:
    return ValueError(
        f"{path}: line {number}: a cell begins with a quotation mark and does not end in this "
        f"line. Write a cell of several lines in one line; put a cell that holds a mark into "
        f"marks, and double the one inside; or separate cells by tabs, where marks are letters."
    )


def _header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    names = [name.strip() for name in next(reader, [])]
    if not names:
        raise ValueError(f"{path} is empty, expected a header and rows.")
    if any("\udc80" <= letter <= "\udcff" for name in names for letter in name):
        raise ValueError(f"{path}: line 1: the header is not UTF-8. Save the file as UTF-8.")
    return names


def _lines(path: Path, member: str | None) -> Iterator[bytes]:
    """Yield the lines without their ends: line feed, carriage return, or one after the other.

    A byte order mark before the first line is left out.

    Raises:
        ValueError: a line is too long for any table, or the file is UTF-16.
    """
    rest, n_lines = b"", 0
    for chunk in _ahead(_chunks(path, member)):
        text = rest + chunk if n_lines or rest else _without_mark(path, chunk)
        held = text[-1:] if text.endswith(b"\r") else b""  # its line feed may come next
        if b"\r" in text:
            text = text[: len(text) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = text.split(b"\n")
        rest = lines.pop() + held
        n_lines += len(lines)
        yield from lines
        if len(rest) > _LONGEST:
            raise ValueError(
                f"{path}: line {n_lines + 1} is longer than {_LONGEST >> 20} MiB. Is it a file of "
                f"lines?"
            )
    if rest:
        yield rest.removesuffix(b"\r")


def _without_mark(path: Path, start: bytes) -> bytes:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path} is UTF-16. Save it as UTF-8.")
    return start.removeprefix(b"\xef\xbb\xbf")


def _ahead(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Read one chunk ahead in a thread: zlib works while the chunk before it is parsed."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = pool.submit(next, chunks, None)
            yield chunk


def _chunks(path: Path, member: str | None) -> Iterator[bytes]:
    """Yield the decompressed content, with a progress bar over what is read from disk."""
    try:
        if member is None:
            with path.open("rb") as file, _bar(path.name, path.stat().st_size) as bar:
                raw = _read(file, bar)
                yield from _gunzip(raw) if path.name.endswith(".gz") else raw
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive, archive.open(member) as file:
                with _bar(member, archive.getinfo(member).file_size) as bar:
                    yield from _read(file, bar)
        else:
            with tarfile.open(path) as tar:
                info = tar.getmember(member)
                found = tar.extractfile(info) if info.isreg() else None
                if found is None:
                    raise ValueError(f"{path}: {member} is a link or a folder, expected a file.")
                with found, _bar(member, info.size) as bar:
                    yield from _read(found, bar)
    except (*_ARCHIVE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, and not of the content
        raise _damaged(path, error) from error


def _read(file: Any, bar: Any) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        bar.update(len(block))
        yield block


def _gunzip(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress gzip members one after the other.

    ``gzip`` reads 8 KiB at a time, which would make the two threads wait for each other.
    """
    engine, fresh = zlib.decompressobj(wbits=31), True
    for block in blocks:
        while block:
            fresh = False
            yield engine.decompress(block, _EXPANDED)
            block = engine.unconsumed_tail
            if engine.eof:
                block = engine.unused_data.lstrip(b"\0")
                engine, fresh = zlib.decompressobj(wbits=31), True
    if not fresh:
        raise EOFError("it ends in the middle")


def _damaged(path: Path, error: BaseException) -> ValueError:
    if isinstance(error, RuntimeError):  # zipfile's for a password, or a method it does not know
        return ValueError(f"{path} cannot be read: {error}. Unpack it, and pack it without that.")
    return ValueError(
        f"{path} is truncated or damaged: {error}. Remove it, and fetch it again: the same "
        f"command does, where the address allows it."
    )


def _bar(name: str, size: int) -> Any:
    return tqdm(total=size, desc=name, unit="B", unit_scale=True, disable=None, leave=False)
