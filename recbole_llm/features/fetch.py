"""Images from URLs: many at a time, tried again where that may help, kept on disk.

``<folder>/<two digits>/<sha256 of the URL>`` holds an image's bytes as they came. Next to it
``<sha256>.failed`` holds the reason why a URL has none, where another try would meet it again (404,
no image, too large); time-outs, lost connections and server errors are tried again by the next run.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from recbole_llm.encoders.images import BadImageError, open_image
from recbole_llm.files import replacing
from recbole_llm.net.http import UnreachableError, get, open_session, slow_error, status_error
from recbole_llm.net.retry import (
    NetworkError,
    PermanentError,
    RateLimiter,
    call_with_retries,
)
from recbole_llm.net.threads import work_through

_CHUNK = 1 << 16


class Transport(NamedTuple):
    """Time-outs, retries and limits.

    Attributes:
        timeout_s: seconds until the whole image must have arrived.
        retries: tries after the first.
        backoff_s: first wait between tries in seconds, doubled each time, with jitter.
        concurrency: requests at a time.
        max_bytes: largest size of an image.
        allow_private_hosts: whether hosts of this machine and its network may be asked.
    """

    timeout_s: float = 30.0
    retries: int = 4
    backoff_s: float = 1.0
    concurrency: int = 16
    max_bytes: int = 20 * 2**20
    allow_private_hosts: bool = False


class _NotAskedError(NetworkError):
    """A URL that was left alone; the next run asks for it."""


class _Host:
    """A server, whose pauses hold back every request to it."""

    def __init__(self, stop: threading.Event) -> None:
        self.limiter = RateLimiter(None, stop)
        self.lost_in_a_row = 0


class ImageCache:
    """Images by URL in a folder, which is made if it does not exist.

    Args:
        folder: folder of images, laid out as the module says; several processes may share it.
        transport: time-outs, retries and limits.
    """

    def __init__(self, folder: Path, transport: Transport) -> None:
        self.folder, self.transport = folder, transport
        self._stop = threading.Event()
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()

    def path(self, url: str) -> Path:
        """Return the path of a URL's image, whether or not it was fetched."""
        name = hashlib.sha256(url.encode()).hexdigest()
        return self.folder / name[:2] / name

    def fetch(
        self, urls: Sequence[str], retry_failed: bool = False, show_progress: bool = True
    ) -> dict[str, str]:
        """Fetch the images that are missing.

        Args:
            urls: addresses, each once.
            retry_failed: whether to ask again for what failed for good before.
            show_progress: whether to show a progress bar.

        Returns:
            Reason of the failure by URL, for those that have no image.

        Raises:
            OSError: the folder cannot be written.
        """
        failures, todo = {}, []
        for url in urls:
            path = self.path(url)
            failed = path.with_suffix(".failed")
            if path.is_file():
                continue
            if failed.is_file() and not retry_failed:
                failures[url] = failed.read_text(encoding="utf-8")
            else:
                todo.append(url)
        with tqdm(
            total=len(urls),
            initial=len(urls) - len(todo),
            desc="fetching",
            unit="image",
            disable=not (show_progress and todo),
            dynamic_ncols=True,
        ) as bar:
            bar.set_postfix_str(f"failed {len(failures):,}")
            for url, reason in self._work_through(todo):
                if reason is not None:
                    failures[url] = reason
                    bar.set_postfix_str(f"failed {len(failures):,}")
                bar.update()
        return failures

    def _work_through(self, urls: Sequence[str]) -> Iterator[tuple[str, str | None]]:
        """Yield each URL with None, or the reason of its failure, as its turn ends."""

        @contextmanager
        def worker() -> Iterator[Callable[[str], str | None]]:
            with open_session(self.transport.allow_private_hosts) as session:
                yield lambda url: self._settle(session, url)

        self._stop.clear()
        yield from work_through(urls, worker, self.transport.concurrency, self._stop)

    def _settle(self, session: requests.Session, url: str) -> str | None:
        """Fetch one URL into its file; return the reason if that failed."""
        path = self.path(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            data = self._fetch_patiently(session, url)
        except NetworkError as error:
            if isinstance(error, PermanentError):
                with replacing(path.with_suffix(".failed")) as file:
                    file.write(error.reason.encode())
            return error.reason
        with replacing(path) as file:
            file.write(data)
        path.with_suffix(".failed").unlink(missing_ok=True)
        return None

    def _fetch_patiently(self, session: requests.Session, url: str) -> bytes:
        """Return an image's bytes; failures that may pass are tried again."""
        transport, host = self.transport, self._host(url)

        def attempt() -> bytes:
            host.limiter.acquire()
            if self._stop.is_set():
                raise _NotAskedError("stopped")
            if host.lost_in_a_row >= max(10, 2 * transport.concurrency):
                raise _NotAskedError("host unreachable")  # a dead host would take days
            try:
                data = self._fetch_once(session, url)
            except UnreachableError:
                raise
            except NetworkError:
                host.lost_in_a_row = 0
                raise
            host.lost_in_a_row = 0
            return data

        try:
            return call_with_retries(
                attempt, transport.retries, transport.backoff_s, host.limiter.wait
            )
        except UnreachableError:
            host.lost_in_a_row += 1
            raise

    def _host(self, url: str) -> _Host:
        try:
            name = urlsplit(url).netloc
        except ValueError as error:
            raise PermanentError("invalid URL") from error
        with self._lock:
            return self._hosts.setdefault(name, _Host(self._stop))

    def _fetch_once(self, session: requests.Session, url: str) -> bytes:
        """Ask once for an image.

        Raises:
            TransientError: another try may bring the image.
            PermanentError: what the URL leads to is no image, or too large.
        """
        limit_s, max_bytes = self.transport.timeout_s, self.transport.max_bytes
        too_large = PermanentError(f"larger than {max_bytes / 2**20:g} MB")
        deadline = time.monotonic() + limit_s
        data = bytearray()
        with get(session, url, limit_s) as response:
            if response.status_code != 200:
                raise status_error(response)
            length = response.headers.get("Content-Length", "")
            if length.isdigit() and int(length) > max_bytes:
                raise too_large
            while chunk := response.raw.read1(_CHUNK, decode_content=True):
                data += chunk
                if len(data) > max_bytes:
                    raise too_large
                if time.monotonic() > deadline:
                    raise slow_error(limit_s)
        try:
            open_image(bytes(data))
        except BadImageError as error:
            raise PermanentError(str(error)) from error
        return bytes(data)
