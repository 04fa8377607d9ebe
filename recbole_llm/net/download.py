"""Fetching raw files: resumed by HTTP range, tried again with back-off, checked, and noted."""

import hashlib
import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from filelock import FileLock
from tqdm import tqdm

from recbole_llm.files import replacing
from recbole_llm.version import __version__

_BLOCK = 1 << 20  # bytes
_TIMEOUT_S = 60.0  # without a byte
_BACKOFF_S = 1.0  # before the second attempt; doubled each time
_LONGEST_WAIT_S = 60.0
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP errors that may pass
_MAGIC = {".gz": b"\x1f\x8b", ".zip": b"PK", ".npy": b"\x93NUMPY"}


class RawFile(NamedTuple):
    """A file of a source.

    Attributes:
        role: what it is, such as ``reviews``.
        address: where it is published, or the page with the form that comes before it.
        file_name: its name at the source, and in the folder of raw files.
        by_hand: it cannot be fetched without a person, who accepts a licence at the address.
    """

    role: str
    address: str
    file_name: str
    by_hand: bool = False


class Fetched(NamedTuple):
    """A raw file on disk.

    Attributes:
        path: where it is.
        note: what the manifest says of it: file, address, fetched_from (none: put there by hand),
            size in bytes and sha256.
    """

    path: Path
    note: dict[str, Any]


class TransientError(OSError):
    """A failure that another attempt may mend; ``wait_s`` is the server's Retry-After, or 0."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


def fetch_all(
    files: list[RawFile],
    folder: Path,
    mirror: str | None = None,
    retries: int = 5,
    tell: Callable[[str], object] = print,
) -> dict[str, Fetched]:
    """Find or fetch the raw files of a source, by role.

    A file that is in the folder already is taken, whether it was fetched or put there by hand; one
    whose name ends in ``.gz`` may also be there decompressed.

    Args:
        files: what is wanted.
        folder: where they are, or go.
        mirror: fetch from ``<mirror>/<path of the address>`` instead.
        retries: attempts in a row that bring nothing, before it gives up.
        tell: gets a line for each download.

    Raises:
        OSError: a file can neither be found nor fetched; the message lists all that are wanted,
            their addresses and where to put them.
        ValueError: what is there is another kind of file, such as an error page; or the mirror is
            no address.
    """
    if mirror is not None and not mirror.startswith(("http://", "https://")):
        raise ValueError(f"mirror must be an http address, got {mirror!r}.")
    found = {}
    for file in files:
        path = folder / file.file_name
        plain = path.with_suffix("")
        if not path.exists() and path.suffix == ".gz" and plain.exists():
            path = plain
        if not path.exists():
            url = file.address
            if mirror is not None:
                url = mirror.rstrip("/") + "/" + file.address.split("/", 3)[3]
            try:
                if file.by_hand:
                    raise OSError("its licence has to be accepted in a form there")
                folder.mkdir(parents=True, exist_ok=True)
                with FileLock(f"{path}.lock"):  # another process may want the same
                    if not path.exists():
                        tell(f"fetching {url}")
                        _fetch(url, path, retries, tell)
            except OSError as error:
                raise OSError(_by_hand(file, files, folder, error)) from error
        _check_kind(path)
        found[file.role] = Fetched(path, _note(file, path))
    return found


def local_file(role: str, path: Path) -> Fetched:
    """Return a file of the user's own.

    Raises:
        FileNotFoundError: it does not exist.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    return Fetched(path, _note(RawFile(role, "", path.name), path))


def _by_hand(file: RawFile, files: list[RawFile], folder: Path, error: OSError) -> str:
    missing = [
        f"{it.address}\n        -> {folder / it.file_name}"
        for it in files
        if not (folder / it.file_name).exists()
    ]
    what_to_do = "Run the same command again to go on where it stopped, or put"
    return "\n    ".join(
        [
            f"{file.file_name} cannot be fetched: {error}.",
            f"{'Put' if file.by_hand else what_to_do} these files there by hand (--raw_dir names "
            f"another folder):",
            *missing,
        ]
    )


def _note(file: RawFile, path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    origin = _read_state(_origin_file(path))
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {
        "role": file.role,
        "file": path.name,
        "address": file.address or None,
        # Of another size, it is not the file that was fetched.
        "fetched_from": origin.get("url") if origin.get("size") == size else None,
        "size": size,
        "sha256": digest,
    }


def _check_kind(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(512)
    wanted = _MAGIC.get(path.suffix)
    if wanted is not None and not start.startswith(wanted) or _is_html(start):
        what = "an HTML page" if _is_html(start) else f"no {path.suffix} file"
        raise ValueError(
            f"{path} is {what}: it begins with {start[:40]!r}. Remove it, and fetch it again."
        )


def _is_html(start: bytes) -> bool:
    return start.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html"))


def _origin_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.origin.json")


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _write_state(path: Path, state: dict[str, Any]) -> None:
    with replacing(path) as file:
        file.write((json.dumps(state, indent=1) + "\n").encode())


def _fetch(url: str, path: Path, retries: int, tell: Callable[[str], object]) -> None:
    """Fetch ``url`` to ``path``; an attempt goes on where the one before it, or a kill, stopped."""
    part = path.with_name(f"{path.name}.part")
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _attempt(url, part, path.suffix)
            break
        except TransientError as error:
            after = part.stat().st_size if part.exists() else 0
            failures = 1 if after > before else failures + 1
            if failures > retries:
                raise OSError(f"{error} ({failures} attempts in a row)") from error
            wait = max(error.wait_s, _BACKOFF_S * 2 ** (failures - 1))
            wait = min(wait, _LONGEST_WAIT_S)
            tell(f"  {error}; again in {wait:g} s, from byte {after:,}")
            time.sleep(wait)
    size = part.stat().st_size
    _write_state(_origin_file(path), {"url": url, "size": size})
    os.replace(part, path)
    _state_file(part).unlink(missing_ok=True)


def _state_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _attempt(url: str, part: Path, suffix: str) -> None:
    """Fetch what is missing of ``part``.

    Raises:
        TransientError: the connection or the server failed in a way that may pass.
        OSError: the address answers with an error, or with an HTML page.
    """
    state = _read_state(_state_file(part))
    have = part.stat().st_size if part.exists() and state.get("url") == url else 0
    if have and have == state.get("size"):
        return
    headers = {"User-Agent": f"recbole-llm/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if state.get("version"):
            headers["If-Range"] = state["version"]
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            _receive(answer, url, part, suffix, state if have else {}, have)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # what is there does not fit the file any more
            part.unlink(missing_ok=True)
        if error.code == 416 or error.code in _PASSING:
            wait = error.headers.get("Retry-After", "")
            seconds = float(wait) if wait.isdigit() else 0.0
            raise TransientError(
                f"the server answers {error.code} {error.reason}", seconds
            ) from error
        raise OSError(f"the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise TransientError(f"no connection: {error.reason}") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise TransientError(f"the connection broke: {error or type(error).__name__}") from error


def _receive(
    answer: Any, url: str, part: Path, suffix: str, state: dict[str, Any], have: int
) -> None:
    """Append what the server sends, or start over if it is the whole file or another one."""
    headers = answer.headers
    if headers.get_content_type() == "text/html" and suffix not in (".html", ".htm"):
        raise OSError(f"{url} answers with an HTML page instead of the file")
    length = headers.get("Content-Length")
    total = int(length) if length is not None and length.isdigit() else None
    version = headers.get("ETag", "")
    if not version or version.startswith("W/"):  # a weak one promises no equal bytes
        version = headers.get("Last-Modified", "")
    start = 0
    if answer.status == 206:
        spans = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
        total = int(spans[2]) if spans and spans[2] != "*" else None
        same = spans and int(spans[1]) == have
        if not same or total != state.get("size") or version != state.get("version"):
            part.unlink(missing_ok=True)
            raise TransientError(
                "the file has changed at the source, or the range is not that asked"
            )
        start = have
    if not start:
        part.unlink(missing_ok=True)  # before the state says that it is of this version
    _write_state(_state_file(part), {"url": url, "size": total, "version": version})
    with part.open("ab" if start else "wb") as file:
        got = start + _copy(answer, file, total, start, part.name.removesuffix(".part"))
    if total is not None and got != total:
        raise TransientError(f"the connection broke after {got:,} of {total:,} bytes")


def _copy(answer: Any, file: BinaryIO, total: int | None, start: int, name: str) -> int:
    copied = 0
    bar = tqdm(
        total=total,
        initial=start,
        desc=name,
        unit="B",
        unit_scale=True,
        disable=None,
        leave=False,
    )
    with bar:
        while block := answer.read1(_BLOCK):
            if not copied and not start and _is_html(block[:512]):
                raise OSError("the address answers with an HTML page instead of the file")
            file.write(block)
            file.flush()  # a kill loses nothing that came
            copied += len(block)
            bar.update(len(block))
    return copied
