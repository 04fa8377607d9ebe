"""Downloads that survive dropped connections and killed processes.

While ``<file>`` is being fetched, ``<file>.part`` holds the bytes so far and ``<file>.part.json``
the address, size and version that they belong to. ``<file>.origin.json`` stays next to the whole
file and says where it came from.
"""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import requests
from tqdm import tqdm

from recbole_llm.files import replacing
from recbole_llm.net.http import get, is_html, open_session, status_error
from recbole_llm.net.retry import PermanentError, TransientError, call_with_retries
from recbole_llm.secrets import mask_url

BACKOFF_S = 1.0  # before the second attempt; doubled each time
_BLOCK = 1 << 20  # bytes
_TIMEOUT_S = 60.0  # without a byte
_LONGEST_WAIT_S = 60.0  # of a Retry-After: a file is worth another try, however busy the server is


def download(url: str, path: Path, retries: int, report: Callable[[str], object]) -> None:
    """Fetch a file; an attempt continues where the one before it, or a kill, stopped.

    Args:
        url: address of the file.
        path: target file; its folder exists, and no other process fetches it.
        retries: attempts in a row that may bring nothing.
        report: function that gets a line before each retry.

    Raises:
        OSError: the file cannot be fetched; what came so far is kept for the next call.
    """
    part = path.with_name(f"{path.name}.part")

    def attempt() -> None:
        before = _size(part)
        try:
            with open_session() as session:
                _fetch_rest(session, url, part, path.suffix)
        except TransientError as error:
            error.has_progress = _size(part) > before
            error.wait_s = min(error.wait_s or 0.0, _LONGEST_WAIT_S)
            raise

    def wait(error: TransientError, backoff_s: float) -> None:
        seconds = max(error.wait_s or 0.0, backoff_s)
        report(f"  {error}; again in {seconds:.3g} s, from byte {_size(part):,}")
        time.sleep(seconds)

    try:
        call_with_retries(attempt, retries, BACKOFF_S, wait)
    except TransientError as error:
        raise OSError(f"{error} ({retries + 1} attempts in a row)") from error
    _write_state(_origin_file(path), {"url": mask_url(url), "size": _size(part)})
    os.replace(part, path)
    _state_file(part).unlink(missing_ok=True)


def downloaded_from(path: Path) -> str | None:
    """Return the address that a file was fetched from; None for a file of another origin.

    A file that was fetched and then changed by hand has another size, and so another origin.
    """
    origin = _read_state(_origin_file(path))
    return origin.get("url") if origin.get("size") == path.stat().st_size else None


def _fetch_rest(session: requests.Session, url: str, part: Path, suffix: str) -> None:
    """Fetch what ``part`` lacks.

    Raises:
        TransientError: the connection or the server failed in a way that may pass.
        PermanentError: the address answers with an error, or with an HTML page.
    """
    state = _read_state(_state_file(part))
    have = _size(part) if state.get("url") == mask_url(url) else 0
    if have and have == state.get("size"):
        return
    headers = {"Accept-Encoding": "identity"}  # bytes as they are published
    if have:
        headers["Range"] = f"bytes={have}-"
        if state.get("version"):
            headers["If-Range"] = state["version"]
    with get(session, url, _TIMEOUT_S, headers) as response:
        if response.status_code == 416:  # the file at the source is shorter now
            part.unlink(missing_ok=True)
            raise TransientError("HTTP 416: the file has changed at the source")
        if response.status_code not in (200, 206):
            raise status_error(response)
        _receive(response, url, part, suffix, state if have else {}, have)


def _receive(
    response: requests.Response,
    url: str,
    part: Path,
    suffix: str,
    state: dict[str, Any],
    have: int,
) -> None:
    """Append what the server sends, or start over if it is the whole file or another one."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "text/html" and suffix not in (".html", ".htm"):
        raise _page_error()
    version = _version(response)
    length = response.headers.get("Content-Length", "")
    total, start = int(length) if length.isdigit() else None, 0
    if response.status_code == 206:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        total = int(span[2]) if span and span[2] != "*" else None
        same = span and int(span[1]) == have
        if not same or total != state.get("size") or version != state.get("version"):
            part.unlink(missing_ok=True)
            raise TransientError(
                "the file has changed at the source, or the range is not the one asked for"
            )
        start = have
    if not start:
        part.unlink(missing_ok=True)  # before the state says that it is of this version
    content = {"url": mask_url(url), "size": total, "version": version}
    _write_state(_state_file(part), content)
    with part.open("ab" if start else "wb") as file:
        received = start + _copy(response, file, total, start, part.name.removesuffix(".part"))
    if total is not None and received != total:
        raise TransientError(f"the connection broke after {received:,} of {total:,} bytes")


def _version(response: requests.Response) -> str:
    """Return what tells this content from later ones: a strong ETag, else the date of change."""
    tag = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):  # a weak one promises no equal bytes
        return tag
    return response.headers.get("Last-Modified", "")


def _copy(
    response: requests.Response, file: BinaryIO, total: int | None, start: int, name: str
) -> int:
    """Append the body to a file with a progress bar; return its bytes."""
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
        while block := response.raw.read1(_BLOCK, decode_content=False):
            if not copied and not start and is_html(block):
                raise _page_error()
            file.write(block)
            file.flush()  # a kill loses nothing that came
            copied += len(block)
            bar.update(len(block))
    return copied


def _page_error() -> PermanentError:
    return PermanentError("the address answers with an HTML page instead of the file")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _origin_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.origin.json")


def _state_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _write_state(path: Path, state: dict[str, Any]) -> None:
    with replacing(path) as file:
        file.write((json.dumps(state, indent=1) + "\n").encode())
