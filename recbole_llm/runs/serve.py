"""A small HTTP server that recommends by one finished run.

    GET  /health                                 {"status": "ok", "run": ..., "model": ..., ...}
    GET  /recommend?user=U&k=10                  {"user": U, "items": [{"item": ..., "score": ...}]}
    GET  /recommend?history=I1,I2&k=10           the same for a new user
    POST /recommend   {"users": [...], "k": 10}  {"recommendations": [...]}; or "histories"

An error is ``{"error": text}`` with status 400 (bad input), 404 (no such page), 405 or 413.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd

from recbole_llm.runs.loaded import LoadedRun
from recbole_llm.runs.recommend import Recommender

_LARGEST_BODY = 1 << 20  # bytes
_MOST_LISTS = 1000  # users or histories of one request
_TIMEOUT_S = 30


class RecommendationServer(ThreadingHTTPServer):
    """Serves one run; requests wait for each other, as they share one model.

    Args:
        loaded: finished run.
        host: address to listen on.
        port: port; 0 takes a free one (``server_port`` says which).

    Raises:
        OSError: the address cannot be taken.
    """

    daemon_threads = True

    def __init__(self, loaded: LoadedRun, host: str = "127.0.0.1", port: int = 8000) -> None:
        self.run, self.recommender, self.lock = loaded, Recommender(loaded), threading.Lock()
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise OSError(
                f"cannot listen on {host}:{port}: {error}. Give another --port."
            ) from error

    def recommend(self, request: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the lists that a request asks for.

        Args:
            request: ``users`` or ``histories`` (lists), and ``k``, by default 10.

        Raises:
            ValueError: the request is malformed, a token is unknown, or the model cannot do it.
        """
        unknown = sorted(set(request) - {"users", "histories", "k"})
        if unknown or ("users" in request) == ("histories" in request):
            raise ValueError(
                "a request has users or histories, and k"
                + (f"; unknown: {', '.join(map(repr, unknown))}." if unknown else ".")
            )
        k = request.get("k", 10)
        users, histories = request.get("users"), request.get("histories")
        _check_lists(users if histories is None else histories, is_nested=histories is not None)
        with self.lock:
            if histories is None:
                table = self.recommender.for_users([str(user) for user in users or ()], k)
                return _lists(table, "user")
            return _lists(self.recommender.for_histories(histories, k), "history")


def _check_lists(lists: Any, is_nested: bool) -> None:
    """Check that users are a list of tokens, and histories a list of such lists.

    Raises:
        ValueError: they are not, or there are too many.
    """
    rows = lists if is_nested else [lists]
    is_list = isinstance(lists, list) and all(isinstance(row, list) for row in rows)
    if not is_list or not all(isinstance(x, str | int) for row in rows for x in row) or not lists:
        raise ValueError("users must be a list of ids, histories a list of lists of ids.")
    if len(lists) > _MOST_LISTS:
        raise ValueError(f"at most {_MOST_LISTS} lists a request, got {len(lists)}.")


def _lists(table: pd.DataFrame, name: str) -> list[dict[str, Any]]:
    columns = [column for column in ("item", "title", "score") if column in table]
    return [
        {name: user, "items": rows[columns].to_dict("records")}
        for user, rows in table.groupby("user", sort=False)
    ]


class _Handler(BaseHTTPRequestHandler):
    server: RecommendationServer
    timeout = _TIMEOUT_S
    protocol_version = "HTTP/1.1"
    server_version = "recbole-llm"

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        url = urlsplit(self.path)
        if url.path == "/health":
            self._send(HTTPStatus.OK, self._health())
        elif url.path == "/recommend":
            self._answer(lambda: self._one(parse_qs(url.query, keep_blank_values=True)))
        else:
            self._no_page()

    def do_POST(self) -> None:  # noqa: N802
        if urlsplit(self.path).path != "/recommend":
            self._no_page()
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            self.close_connection = True
            self._send(HTTPStatus.LENGTH_REQUIRED, {"error": "Content-Length is missing."})
        elif int(length) > _LARGEST_BODY:
            self.close_connection = True
            text = f"a request has at most {_LARGEST_BODY:,} bytes."
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": text})
        else:
            body = self.rfile.read(int(length))
            self._answer(lambda: {"recommendations": self.server.recommend(_parse(body))})

    def _health(self) -> dict[str, Any]:
        record = self.server.run.record
        return {
            "status": "ok",
            "run": record.id,
            "model": record.model,
            "dataset": record.dataset,
            "test": record.metrics.get("test", {}),
        }

    def _one(self, query: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Return the list of one user or one history of a query."""
        unknown = sorted(set(query) - {"user", "history", "k"})
        if unknown or any(len(values) > 1 for values in query.values()):
            raise ValueError("a query has user or history, and k, each once.")
        request: dict[str, Any] = {"k": _integer(query["k"][0])} if "k" in query else {}
        if "user" in query:
            request["users"] = [query["user"][0]]
        if "history" in query:
            request["histories"] = [[x for x in query["history"][0].split(",") if x]]
        lists = self.server.recommend(request)
        return lists[0] if lists else {"items": []}

    def _answer(self, make: Any) -> None:
        try:
            content, status = make(), HTTPStatus.OK
        except ValueError as error:
            content, status = {"error": str(error)}, HTTPStatus.BAD_REQUEST
        self._send(status, content)

    def _no_page(self) -> None:
        self.close_connection = True  # the body of a POST was not read
        text = "no such page; there are /health and /recommend."
        self._send(HTTPStatus.NOT_FOUND, {"error": text})

    def _send(self, status: HTTPStatus, content: Mapping[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Print nothing: a request names a user."""


def _parse(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the body is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise ValueError("the body must be a JSON object with users or histories.")
    return request


def _integer(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ValueError(f"k must be a positive integer, got {text[:50]!r}.")
    return int(text)
