"""The server: lists over HTTP, and a message for every bad request."""

import json
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

import recbole_llm
from recbole_llm.record import RunRecord
from recbole_llm.runs.serve import RecommendationServer


@pytest.fixture
def server(runner: Callable[..., RunRecord]) -> Iterator[RecommendationServer]:
    """A server of an EASE run on a free port."""
    loaded = recbole_llm.load(runner("EASE").folder)
    with RecommendationServer(loaded, port=0) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(
    server: RecommendationServer, path: str, body: Any = None, method: str | None = None
) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method or ("GET" if body is None else "POST"), path, content)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text) if text.startswith(b"{") else text


def test_lists_are_those_of_recommend(server: RecommendationServer) -> None:
    expected = server.run.recommend(["3", "1"], k=4)
    status, answer = ask(server, "/recommend?user=3&k=4")
    assert status == 200 and answer["user"] == "3"
    rows = expected[expected["user"] == "3"]
    assert [row["item"] for row in answer["items"]] == rows["item"].tolist()
    assert [row["title"] for row in answer["items"]] == rows["title"].tolist()
    status, answer = ask(server, "/recommend", {"users": ["3", 1], "k": 4})
    items = [row["item"] for each in answer["recommendations"] for row in each["items"]]
    assert status == 200 and items == expected["item"].tolist()
    by_history = server.run.recommend(histories=[["1", "50"], ["7"]], k=3)["item"].tolist()
    status, answer = ask(server, "/recommend?history=1,50&k=3")
    assert status == 200 and [row["item"] for row in answer["items"]] == by_history[:3]
    status, answer = ask(server, "/recommend", {"histories": [["1", "50"], ["7"]], "k": 3})
    items = [row["item"] for each in answer["recommendations"] for row in each["items"]]
    assert status == 200 and items == by_history


def test_health(server: RecommendationServer) -> None:
    status, answer = ask(server, "/health")
    assert status == 200 and answer["status"] == "ok" and answer["model"] == "EASE"
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/recommend?user=nobody", None, 400, "no user"),
        ("/recommend?user=1&k=0", None, 400, "k must be an integer"),
        ("/recommend?user=1&k=x", None, 400, "positive integer"),
        ("/recommend?user=1&k=99999", None, 400, "k must be an integer"),
        ("/recommend", None, 400, "users or histories"),
        ("/recommend?user=1&history=1", None, 400, "users or histories"),
        ("/recommend?user=1&user=2", None, 400, "each once"),
        ("/recommend?user=1&colour=red", None, 400, "user or history"),
        ("/recommend?history=", None, 400, "at least one item"),
        ("/nothing", None, 404, "/recommend"),
        ("/nothing", {"users": ["1"]}, 404, "/recommend"),
        ("/recommend", b"{", 400, "not JSON"),
        ("/recommend", b"[1]", 400, "JSON object"),
        ("/recommend", {"users": "1"}, 400, "list of ids"),
        ("/recommend", {"users": []}, 400, "list of ids"),
        ("/recommend", {"users": [None]}, 400, "list of ids"),
        ("/recommend", {"histories": ["1"]}, 400, "list of lists"),
        ("/recommend", {"users": ["1"], "k": "5"}, 400, "k must be an integer"),
        ("/recommend", {"users": ["1"], "k": True}, 400, "k must be an integer"),
        ("/recommend", {"users": ["1"] * 1001}, 400, "at most 1000"),
        ("/recommend", b" " * (1 << 20) + b"{}", 413, "bytes"),
    ],
)
def test_bad_requests_get_a_message(
    path: str, body: Any, status: int, text: str, server: RecommendationServer
) -> None:
    found, answer = ask(server, path, body)
    assert found == status and text in answer["error"]
    assert ask(server, "/health")[0] == 200


def test_a_port_that_is_taken_is_an_error(server: RecommendationServer) -> None:
    with pytest.raises(OSError, match="another --port"):
        RecommendationServer(server.run, port=server.server_port)
