"""A server of images on this machine, which misbehaves as a test tells it to."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[BaseHTTPRequestHandler], None]


def send(
    handler: BaseHTTPRequestHandler,
    body: bytes,
    status: int = 200,
    length: int | None = None,
    **headers: str,
) -> None:
    try:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)
    except OSError:
        pass  # the client is gone


def say(body: bytes) -> Reply:
    return lambda handler: send(handler, body)


def status(code: int, **headers: str) -> Reply:
    return lambda handler: send(handler, b"no", code, **headers)


def drop_midway(body: bytes) -> Reply:
    """Announce the whole body, send half of it, and hang up."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        send(handler, body[: len(body) // 2], length=len(body))
        handler.close_connection = True

    return reply


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.close()


def drip(body: bytes, gap_s: float) -> Reply:
    """Send a byte at a time: no single wait is long, but the whole is."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        try:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            for byte in body:
                handler.wfile.write(bytes([byte]))
                time.sleep(gap_s)
        except OSError:
            pass

    return reply


class ImageServer:
    """Replies to the n-th request of a path with ``plan[path][n]``; then with the last of them.

    Attributes:
        asked: how often each path was asked for; ``times``: when, by path.
    """

    def __init__(self, usual: bytes) -> None:
        self.plan: dict[str, list[Reply]] = {}
        self.asked: Counter[str] = Counter()
        self.times: dict[str, list[float]] = {}
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with lock:
                    outer.asked[self.path] += 1
                    outer.times.setdefault(self.path, []).append(time.monotonic())
                    plan = outer.plan.get(self.path, [say(usual)])
                    reply = plan[min(outer.asked[self.path], len(plan)) - 1]
                reply(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
