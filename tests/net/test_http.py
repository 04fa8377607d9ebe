"""One HTTP client: every failure has its kind, and a reason that is equal in every run."""

import email.utils
import time

import pytest
from file_server import FileServer, drop_after, hang_up, stall_after, status

from recbole_llm.net.http import (
    UnreachableError,
    get,
    is_html,
    may_pass,
    open_session,
    retry_after,
    status_error,
)
from recbole_llm.net.retry import NetworkError, PermanentError, TransientError


def read(url: str, timeout_s: float = 5.0) -> bytes:
    with open_session() as session, get(session, url, timeout_s) as response:
        if response.status_code != 200:
            raise status_error(response)
        return response.raw.read()


def failure(url: str, timeout_s: float = 5.0) -> NetworkError:
    with pytest.raises(NetworkError) as caught:
        read(url, timeout_s)
    return caught.value


def test_the_body_is_read_and_the_package_named(server: FileServer) -> None:
    agents = []

    def answer(handler, content):
        agents.append(handler.headers["User-Agent"])
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(content)

    server.faults = [answer]
    assert read(f"{server.url}/file") == b"content"
    assert agents[0].startswith("recbole-llm/")


@pytest.mark.parametrize("code", [408, 409, 425, 429, 500, 502, 503, 504])
def test_a_status_that_may_pass(server: FileServer, code: int) -> None:
    server.faults = [status(code, retry_after="3")]
    error = failure(f"{server.url}/file")
    assert isinstance(error, TransientError) and error.wait_s == 3.0 and may_pass(code)
    assert error.reason == f"HTTP {code}"


@pytest.mark.parametrize(("code", "text"), [(403, "HTTP 403 Forbidden"), (404, "HTTP 404 Not")])
def test_a_status_that_stays(server: FileServer, code: int, text: str) -> None:
    server.faults = [status(code)]
    error = failure(f"{server.url}/file")
    assert isinstance(error, PermanentError) and str(error).startswith(text)
    assert error.reason == f"HTTP {code}" and not may_pass(code)


def test_a_connection_that_drops_while_the_body_is_read(server: FileServer) -> None:
    server.faults = [drop_after(3)]
    error = failure(f"{server.url}/file")
    assert isinstance(error, TransientError) and not isinstance(error, UnreachableError)
    assert error.reason == "connection dropped midway"


def test_no_answer_in_time(server: FileServer) -> None:
    server.faults = [stall_after(3, seconds=0.6)]
    error = failure(f"{server.url}/file", timeout_s=0.2)
    assert isinstance(error, TransientError) and error.reason == "no answer within 0.2 s"


def test_no_connection(server: FileServer) -> None:
    server.faults = [hang_up]
    for url in (f"{server.url}/file", "http://127.0.0.1:9/file"):
        error = failure(url)
        assert isinstance(error, UnreachableError) and error.reason == "connection failed"
        assert str(error).startswith("no connection: ") and "127.0.0.1" not in str(error)


@pytest.mark.parametrize("url", ["nonsense", "htp://x/1", "http://[x/1", "file:///etc/passwd"])
def test_an_invalid_address(url: str) -> None:
    error = failure(url)
    assert isinstance(error, PermanentError) and error.reason == "invalid URL"


def test_redirects_in_a_circle(server: FileServer) -> None:
    def circle(handler, content):
        handler.send_response(302)
        handler.send_header("Location", "/file")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.faults = [circle] * 9
    assert failure(f"{server.url}/file").reason == "too many redirects"
    assert len(server.asked) == 6


def test_retry_after_takes_seconds_and_dates() -> None:
    assert retry_after({"retry-after": "2.5"}) == 2.5
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert 28 <= retry_after({"retry-after": date}) <= 30
    assert retry_after({"retry-after": "soon"}) is None and retry_after({}) is None


@pytest.mark.parametrize("data", [b"<!DOCTYPE html><p>", b"\n  <HTML>", b"<html lang='en'>"])
def test_a_page_is_known_by_its_beginning(data: bytes) -> None:
    assert is_html(data)


@pytest.mark.parametrize("data", [b"", b"<xml>", b"text <html>", b"\x1f\x8b"])
def test_other_content_is_no_page(data: bytes) -> None:
    assert not is_html(data)
