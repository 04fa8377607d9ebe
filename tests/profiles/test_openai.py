"""The OpenAI back end against a server that fails in every way: nothing lost, nothing twice."""

import threading
import time

import pytest
from chat_server import Server, drop, hang, malformed, say, status, unexpected

from recbole_llm.net.retry import RateLimiter
from recbole_llm.profiles.answer import Answer, Decoding, NoAnswer, Request
from recbole_llm.profiles.openai_client import OpenAIBackend, Transport


def requests(n):
    return [Request(str(i), f"prompt {i}", None, Decoding(20)) for i in range(n)]


def backend(server, **options):
    transport = Transport(**{"timeout_s": 0.5, "backoff_s": 0.01, "concurrency": 3, **options})
    return OpenAIBackend("m", base_url=server.url, transport=transport)


def test_every_failure_is_retried_and_no_answer_is_asked_for_twice(server: Server):
    server.plan = [
        status(500),
        malformed,
        drop,
        hang(1.0),
        status(429, Retry_After="0.2"),
        unexpected,
        status(503),
    ]
    answers = dict(backend(server).ask(requests(8)))
    assert len(answers) == 8
    assert all(isinstance(answer, Answer) for answer in answers.values())
    assert all(
        answer.prompt_tokens == 7 and answer.output_tokens == 3 for answer in answers.values()
    )
    assert set(server.answered.values()) == {1} and len(server.answered) == 8
    assert len(server.asked) == 8 + 7


def test_retry_after_holds_back_every_request(server: Server):
    server.plan = [status(429, Retry_After="0.6")]
    dict(backend(server, concurrency=1).ask(requests(3)))
    assert server.times[1] - server.times[0] >= 0.6


def test_too_long_a_wait_is_no_answer(server: Server):
    server.plan = [status(429, Retry_After="86400")]
    (reply,) = dict(backend(server).ask(requests(1))).values()
    assert isinstance(reply, NoAnswer) and "Retry-After: 86400 s" in reply.reason


def test_backoff_doubles(server: Server):
    server.plan = [status(500)] * 4
    dict(backend(server, backoff_s=0.1, concurrency=1).ask(requests(1)))
    gaps = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    for n, gap in enumerate(gaps):
        assert 0.05 * 2**n <= gap <= 0.1 * 2**n + 0.3


def test_no_answer_after_all_retries_says_why(server: Server):
    server.plan = [status(500)] * 3
    (reply,) = dict(backend(server, retries=2).ask(requests(1))).values()
    assert isinstance(reply, NoAnswer)
    assert "HTTP 500" in reply.reason and "after 3 tries" in reply.reason


def test_bad_request_is_not_repeated(server: Server):
    server.plan = [status(400)]
    replies = dict(backend(server, concurrency=1).ask(requests(2)))
    assert sum(isinstance(reply, NoAnswer) for reply in replies.values()) == 1
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("code", "message"), [(401, "refuses the key"), (404, "does not have model 'm'")]
)
def test_wrong_key_or_model_stops_at_once(server: Server, code: int, message: str):
    server.plan = [status(code)] * 50
    with pytest.raises(ValueError, match=message):
        dict(backend(server, concurrency=1).ask(requests(20)))
    assert len(server.asked) <= 3


def test_server_that_is_down(server: Server):
    server.close()
    with pytest.raises(ConnectionError, match="got no answer from .*the same command resumes"):
        dict(backend(server, retries=0).ask(requests(20)))
    with pytest.raises(ConnectionError):  # too few to be many in a row
        dict(backend(server, retries=0).ask(requests(1)))


def test_requests_run_side_by_side(server: Server):
    barrier = threading.Barrier(3, timeout=5)

    def together(prompt):
        def reply(handler, body):
            barrier.wait()
            say("x")(handler, body)

        return reply

    server.usual = together
    assert len(dict(backend(server, timeout_s=6).ask(requests(3)))) == 3


def test_rate_limit_spaces_requests(server: Server):
    dict(backend(server, requests_per_minute=600).ask(requests(5)))
    gaps = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    assert sum(gaps) >= 0.35


def test_rate_limiter_lets_go_when_everything_stops():
    stop = threading.Event()
    limiter = RateLimiter(None, stop)
    limiter.pause(100)
    threading.Timer(0.1, stop.set).start()
    begin = time.monotonic()
    limiter.acquire()
    assert time.monotonic() - begin < 5


def test_image_and_decoding_are_sent(server: Server, tmp_path):
    (tmp_path / "i.png").write_bytes(b"bytes")
    request = Request("k", "look", tmp_path / "i.png", Decoding(9, 0.7, 0.8, 5))
    dict(backend(server).ask([request]))
    (body,) = server.asked
    assert body["messages"][0]["content"][1]["image_url"]["url"] == "data:image/png;base64,Ynl0ZXM="
    sent = {name: body[name] for name in ("max_tokens", "temperature", "top_p", "seed")}
    assert sent == {"max_tokens": 9, "temperature": 0.7, "top_p": 0.8, "seed": 5}


def test_cut_answers_are_known(server: Server):
    server.plan = [say("The user", finish="length")]
    (answer,) = dict(backend(server).ask(requests(1))).values()
    assert isinstance(answer, Answer) and answer.is_cut


def test_named_key_must_be_set(server: Server, monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ValueError, match="--api_key_env=MY_KEY: this variable is not set"):
        OpenAIBackend("m", base_url=server.url, api_key_env="MY_KEY")
