"""Images from URLs: many at a time, tried again where that may help, kept on disk.

``<folder>/<two digits>/<sha256 of the URL>`` holds an image's bytes as they came. Beside it
``<sha256>.failed`` holds the reason why a URL has none, where another try would not mend it (404,
no image, too large); time-outs, lost connections and server errors are tried again by the next run.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import queue
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import requests
import urllib3
from tqdm import tqdm

from recbole_llm.encoders.images import BadImageError, open_image
from recbole_llm.files import replacing
from recbole_llm.net.retry import LONGEST_WAIT_S, RateLimiter, backoff, retry_after

_CHUNK = 1 << 16


class Transport(NamedTuple):
    """How hard to try.

    Attributes:
        timeout_s: until the whole image must be there.
        retries: tries after the first.
        backoff_s: first wait between them, doubled each time, with jitter.
        concurrency: requests at a time.
        max_bytes: of an image.
    """

    timeout_s: float = 30.0
    retries: int = 4
    backoff_s: float = 1.0
    concurrency: int = 16
    max_bytes: int = 20 * 2**20


class _FailedError(Exception):
    """One try without an image."""

    def __init__(self, reason: str, is_final: bool = False, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.is_final, self.wait_s = reason, is_final, wait_s


class _LostError(_FailedError):
    """Nobody answered."""


class _Host:
    """A server: its pauses hold back every request to it."""

    def __init__(self, stop: threading.Event) -> None:
        self.limiter = RateLimiter(None, stop)
        self.lost_in_a_row = 0


class ImageCache:
    """Images by URL in a folder, which is made if need be.

    Args:
        folder: see above; several processes may share it.
        transport: time-outs, retries and limits.
    """

    def __init__(self, folder: Path, transport: Transport) -> None:
        self.folder, self.transport = folder, transport
        self._stop = threading.Event()
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()

    def path(self, url: str) -> Path:
        """Return where the image of a URL is, or would be."""
        name = hashlib.sha256(url.encode()).hexdigest()
        return self.folder / name[:2] / name

    def fetch(
        self, urls: Sequence[str], retry_failed: bool = False, show_progress: bool = True
    ) -> dict[str, str]:
        """Fetch what is not there yet.

        Args:
            urls: each once.
            retry_failed: try again what failed for good before.
            show_progress: show a progress bar.

        Returns:
            The reason of each URL that has no image.

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
        """Yield each URL with None, or the reason of its failure, as it is settled."""
        todo: queue.SimpleQueue[str] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[str, str | None | Exception]] = queue.SimpleQueue()
        for url in urls:
            todo.put(url)

        agent = f"recbole-llm/{importlib.metadata.version('recbole-llm')}"

        def work() -> None:
            with requests.Session() as session, suppress(queue.Empty):
                session.headers["User-Agent"] = agent
                session.max_redirects = 5
                while not self._stop.is_set():
                    url = todo.get_nowait()
                    try:
                        done.put((url, self._settle(session, url)))
                    except Exception as error:  # raised again where the caller sees it
                        done.put((url, error))

        self._stop.clear()
        try:
            for _ in range(min(self.transport.concurrency, len(urls))):
                # daemons: a slow answer holds up nobody who stops the program
                threading.Thread(target=work, daemon=True).start()
            for _ in urls:
                url, reason = done.get()
                if isinstance(reason, Exception):
                    raise reason
                yield url, reason
        finally:
            self._stop.set()

    def _settle(self, session: requests.Session, url: str) -> str | None:
        """Fetch one URL into its file; returns the reason if that failed."""
        path = self.path(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            data = self._try(session, url)
        except _FailedError as error:
            if error.is_final:
                with replacing(path.with_suffix(".failed")) as file:
                    file.write(error.reason.encode())
            return error.reason
        with replacing(path) as file:
            file.write(data)
        path.with_suffix(".failed").unlink(missing_ok=True)
        return None

    def _try(self, session: requests.Session, url: str) -> bytes:
        """Ask until there is an image, an error that no retry mends, or no try left."""
        transport, host = self.transport, self._host(url)
        for attempt in range(transport.retries + 1):
            host.limiter.acquire()
            if self._stop.is_set():
                raise _FailedError("stopped")
            if host.lost_in_a_row >= max(10, 2 * transport.concurrency):
                raise _FailedError("host unreachable")  # else a dead host takes days
            try:
                data = self._get(session, url)
                host.lost_in_a_row = 0
                return data
            except _FailedError as error:
                failure = error
            if not isinstance(failure, _LostError):
                host.lost_in_a_row = 0
            if failure.is_final or attempt == transport.retries:
                break
            wait = backoff(attempt, transport.backoff_s)
            if failure.wait_s is not None:
                if failure.wait_s > LONGEST_WAIT_S:
                    break
                host.limiter.pause(failure.wait_s)
                wait = random.uniform(0, 0.1) * transport.backoff_s
            self._stop.wait(wait)
        host.lost_in_a_row += isinstance(failure, _LostError)
        raise failure

    def _host(self, url: str) -> _Host:
        try:
            name = urlsplit(url).netloc
        except ValueError as error:
            raise _FailedError("invalid URL", is_final=True) from error
        with self._lock:
            return self._hosts.setdefault(name, _Host(self._stop))

    def _get(self, session: requests.Session, url: str) -> bytes:
        """Ask once.

        Reasons hold no address or time: the manifest of a second run is the same to the byte.
        """
        limit = self.transport.timeout_s
        late = _FailedError(f"no answer within {limit:g} s")
        deadline = time.monotonic() + limit
        try:
            with session.get(url, stream=True, timeout=limit) as response:
                self._check_head(response)
                data = bytearray()
                while chunk := response.raw.read1(_CHUNK, decode_content=True):
                    data += chunk
                    if len(data) > self.transport.max_bytes:
                        raise _too_large(self.transport.max_bytes)
                    if time.monotonic() > deadline:
                        raise late
            open_image(bytes(data))
            return bytes(data)
        except BadImageError as error:
            raise _FailedError(str(error), is_final=True) from error
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise late from error
        except (requests.ConnectionError, urllib3.exceptions.HTTPError) as error:
            if isinstance(error, requests.ConnectionError):
                raise _LostError("connection failed") from error
            raise _FailedError("connection dropped midway") from error
        except requests.TooManyRedirects as error:
            raise _FailedError("too many redirects", is_final=True) from error
        except (requests.RequestException, UnicodeError) as error:
            raise _FailedError("invalid URL", is_final=True) from error

    def _check_head(self, response: requests.Response) -> None:
        status = response.status_code
        if status != 200:
            may_pass = status >= 500 or status in (408, 425, 429)
            wait = retry_after(response.headers) if may_pass else None
            raise _FailedError(f"HTTP {status}", is_final=not may_pass, wait_s=wait)
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and int(length) > self.transport.max_bytes:
            raise _too_large(self.transport.max_bytes)


def _too_large(max_bytes: int) -> _FailedError:
    return _FailedError(f"larger than {max_bytes / 2**20:g} MB", is_final=True)
