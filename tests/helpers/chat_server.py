"""A server of OpenAI's chat protocol on this machine, which misbehaves as a test tells it to."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


def say(text: str, finish: str = "stop") -> Reply:
    """Return a well-formed completion."""

    def reply(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        completion = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": finish,
                    "message": {"role": "assistant", "content": text},
                }
            ],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }
        send(handler, 200, json.dumps(completion).encode())

    return reply


def status(code: int, **headers: str) -> Reply:
    """Return an HTTP error."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, body: send(handler, code, b'{"error": {"message": "no"}}', names)


def complete(content: Any = "Likes things.", **usage: Any) -> Reply:
    """Return a completion with any JSON value as its content, and any counts of tokens."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, **usage}
    message = {"role": "assistant", "content": content}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    body = json.dumps({"id": "1", "model": "m", "choices": choices, "usage": usage}).encode()
    return lambda handler, _: send(handler, 200, body)


def raw(body: bytes, code: int = 200) -> Reply:
    """Return these bytes."""
    return lambda handler, _: send(handler, code, body)


def echo_key(code: int) -> Reply:
    """Return an HTTP error that repeats the key of the request, as careless servers do."""

    def reply(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        key = handler.headers["Authorization"].removeprefix("Bearer ")
        error = {"error": {"message": f"what to do with {key} of {handler.path}?"}}
        send(handler, code, json.dumps(error).encode())

    return reply


def malformed(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    send(handler, 200, b'{"choices": [')


def unexpected(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    send(handler, 200, b'{"hello": "world"}')


def drop(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    handler.close_connection = True
    handler.connection.close()


def hang(seconds: float) -> Reply:
    """Return nothing for so long, and then drop the connection."""

    def reply(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        time.sleep(seconds)
        drop(handler, body)

    return reply


def send(
    handler: BaseHTTPRequestHandler, code: int, body: bytes, headers: dict[str, str] | None = None
) -> None:
    try:
        handler.send_response(code)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)
    except OSError:
        pass  # the client is gone


class Server:
    """Replies to the n-th request with ``plan[n]``; after the plan's end with ``usual``.

    Attributes:
        asked: bodies of all requests; ``times``: when they came; ``answered``: how often each
            prompt got an answer of status 200 from ``usual``.
    """

    def __init__(self, usual: Callable[[str], Reply] | None = None) -> None:
        self.plan: list[Reply] = []
        self.asked: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.answered: Counter[str] = Counter()
        self.usual = usual or (lambda prompt: say(f"Likes things. {hash(prompt) % 1000}"))
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    outer.asked.append(body)
                    outer.times.append(time.monotonic())
                    planned = outer.plan.pop(0) if outer.plan else None
                if planned is not None:
                    planned(self, body)
                    return
                prompt = prompt_of(body)
                outer.usual(prompt)(self, body)
                with outer._lock:
                    outer.answered[prompt] += 1

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def prompts(self) -> Counter[str]:
        """Return how often each prompt was asked."""
        return Counter(prompt_of(body) for body in self.asked)

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def prompt_of(body: dict[str, Any]) -> str:
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else content[0]["text"]
