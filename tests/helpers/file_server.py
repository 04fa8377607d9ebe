"""A file server on this machine, which misbehaves as a test tells it to."""

import hashlib
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[[BaseHTTPRequestHandler, bytes], None]


def drop_after(n_bytes: int) -> Fault:
    """Announce all and send so many bytes of what is asked for."""

    def fault(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        _respond(handler, content, n_bytes)
        handler.close_connection = True

    return fault


def stall_after(n_bytes: int, seconds: float = 30.0) -> Fault:
    """Send so many bytes and then nothing."""

    def fault(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        _respond(handler, content, n_bytes)
        handler.wfile.flush()
        time.sleep(seconds)

    return fault


def ignore_range(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Send the whole file, whatever part of it is asked for."""
    del handler.headers["Range"]
    _respond(handler, content)


def ignore_range_and_drop(n_bytes: int) -> Fault:
    """Send the beginning of the file, whatever part of it is asked for."""

    def fault(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        del handler.headers["Range"]
        _respond(handler, content, n_bytes)

    return fault


def status(code: int, retry_after: str | None = None) -> Fault:
    """Answer with an HTTP error."""

    def fault(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        handler.send_response(code)
        if retry_after is not None:
            handler.send_header("Retry-After", retry_after)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return fault


def page(content_type: str, body: bytes = b"<!DOCTYPE html><html>moved</html>") -> Fault:
    """Answer with an HTML page and status 200, as captive portals and removed files do."""

    def fault(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return fault


def shifted_range(by: int) -> Fault:
    """Send another part of the file than the one asked for, and say so."""

    def fault(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-")) + by
        handler.headers.replace_header("Range", f"bytes={start}-")
        _respond(handler, content)

    return fault


def hang_up(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True
    handler.connection.close()


def _respond(handler: BaseHTTPRequestHandler, content: bytes, limit: int | None = None) -> None:
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    span = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    same = handler.headers.get("If-Range", tag) == tag
    start = int(span[1]) if span and same else 0
    if start >= len(content) > 0:
        return status(416)(handler, content)
    handler.send_response(206 if start else 200)
    if start:
        total = len(content)
        handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
    handler.send_header("Content-Type", "application/octet-stream")
    handler.send_header("Content-Length", str(len(content) - start))
    handler.send_header("ETag", tag)
    handler.end_headers()
    body = content[start:]
    handler.wfile.write(body if limit is None else body[:limit])


class FileServer:
    """Serves ``files`` (path to content); the n-th request meets ``faults[n]``.

    Attributes:
        asked: path and Range header ("" without one) of each request.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.asked: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with outer._lock:
                    outer.asked.append((self.path, self.headers.get("Range", "")))
                    fault = outer.faults.pop(0) if outer.faults else _respond
                content = outer.files.get(self.path)
                try:
                    if content is None:
                        status(404)(self, b"")
                    else:
                        fault(self, content)
                except OSError:
                    pass  # the client is gone

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def publish(self, address: str, content: bytes) -> None:
        """Serve a file under the path that its official address has."""
        self.files["/" + address.split("/", 3)[3]] = content

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
