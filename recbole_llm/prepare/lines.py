"""Raw files line by line in bounded memory: plain, gzip, or a member of a zip or tar archive."""

import csv
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
_BLOCK = 1 << 20  # bytes read at a time
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
        raise ValueError(
            f"{path}: {count.malformed} of {count.read} lines are not what is expected there "
            f"(first: line {count.first_malformed[0]}: {count.problem}). Is it the right file?"
        )
    return count


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
        path: file as in ``for_each_line``; UTF-8, quoted as in CSV.
        start: function that gets the names of the columns ([] without a header) and returns the
            function that gets each row; a row with more or fewer cells than the header is
            malformed.
        member: name of the file in the archive.
        separator: character between cells.
        has_header: whether the first line names the columns.

    Returns:
        Counts of the rows read and skipped.

    Raises:
        ValueError: more than half of the rows are malformed, or the file is damaged or empty.
    """
    count = LineCount()
    reader = _reader(path, separator, member)
    names = _header(path, reader) if has_header else []
    read = start(names)
    while True:
        try:
            row = next(reader)
            if not row:
                continue
            count.read += 1
            if names and len(row) != len(names):
                raise ValueError(f"{len(row)} cells, {len(names)} columns")
            read(row)
        except StopIteration:
            break
        except (*MALFORMED, csv.Error) as error:
            count.skip(reader.line_num, error)
    return _checked(path, count)


def read_header(path: Path, separator: str) -> list[str]:
    """Return the names of a table's columns.

    Raises:
        ValueError: the file is empty.
    """
    return _header(path, _reader(path, separator))


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
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError) as error:
        raise _damaged(path, error) from error
    for member in names:
        if member.rpartition("/")[2] == name:
            return member
    raise ValueError(f"{path} holds no {name}, it holds: {', '.join(names[:20])}.")


def _reader(path: Path, separator: str, member: str | None = None) -> Any:
    texts = (line.decode("utf-8-sig", "surrogateescape") + "\n" for line in _lines(path, member))
    return csv.reader(texts, delimiter=separator)


def _header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    names = [name.strip() for name in next(reader, [])]
    if not names:
        raise ValueError(f"{path} is empty, expected a header and rows.")
    return names


def _lines(path: Path, member: str | None) -> Iterator[bytes]:
    rest = b""
    for chunk in _ahead(_chunks(path, member)):
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        yield from lines
    if rest:
        yield rest


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
                found = tar.extractfile(member)
                if found is None:
                    raise ValueError(f"{path}: {member} is not a file.")
                with found, _bar(member, tar.getmember(member).size) as bar:
                    yield from _read(found, bar)
    except (zlib.error, EOFError, zipfile.BadZipFile, tarfile.TarError) as error:
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
            yield engine.decompress(block)
            if not engine.eof:
                break
            block = engine.unused_data.lstrip(b"\0")
            engine, fresh = zlib.decompressobj(wbits=31), True
    if not fresh:
        raise EOFError("it ends in the middle")


def _damaged(path: Path, error: BaseException) -> ValueError:
    return ValueError(
        f"{path} is truncated or damaged: {error}. Remove it, and fetch it again: the same "
        f"command does, where the address allows it."
    )


def _bar(name: str, size: int) -> Any:
    return tqdm(total=size, desc=name, unit="B", unit_scale=True, disable=None, leave=False)
