"""Kinds 7 and 10: servers that answer nonsense or repeat the key, and keys and addresses askew."""

from collections.abc import Callable
from pathlib import Path

import pytest
from chat_server import Server, complete, echo_key, raw, say, status

from recbole_llm.profiles.answer import Answer, Decoding, NoAnswer, Request
from recbole_llm.profiles.openai_client import OpenAIBackend, Transport

CANARY = "Canary-7h9Q2x"
DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
NONSENSE = {
    "tokens as text": complete(prompt_tokens="abc"),
    "too many tokens": complete(prompt_tokens=10**30),
    "negative tokens": complete(completion_tokens=-1),
    "tokens as a list": complete(completion_tokens=[1]),
    "a number of 5,000 digits": raw(b'{"choices": ' + b"9" * 5000 + b"}"),
    "nested JSON": raw(DEEP),
    "nested choices": raw(b'{"choices": ' + b"[" * 3000 + b"]" * 3000 + b"}"),
    "lone surrogate": complete("half \ud800 letter"),
    "content as a dict": complete({"text": "Likes things."}),
    "content as a list": complete([{"type": "text", "text": "Likes things."}]),
    "content as a number": complete(3),
    "choices null": raw(b'{"choices": null}'),
    "no JSON object": raw(b"[1, 2]"),
    "text": raw(b'"hello"'),
    "no UTF-8": raw(b'{"choices": "\xff\xfe"}'),
}


def ask(server: Server, **options: object) -> Answer | NoAnswer:
    transport = Transport(timeout_s=5, retries=1, backoff_s=0.001)
    backend = OpenAIBackend("m", base_url=server.url, transport=transport, **options)
    (reply,) = dict(backend.ask([Request("k", "prompt", None, Decoding(20))])).values()
    return reply


@pytest.mark.parametrize("name", NONSENSE)
def test_kind7_nonsense_is_no_answer_and_no_traceback(server: Server, name: str) -> None:
    server.plan = [NONSENSE[name]] * 2
    reply = ask(server)
    assert isinstance(reply, NoAnswer) and "malformed response" in reply.reason
    assert "\n" not in reply.reason and len(reply.reason) < 300
    reply.reason.encode()


def test_kind7_unknown_counts_and_no_content_are_fine(server: Server) -> None:
    server.plan = [
        complete(None, prompt_tokens=None),
        raw(b'{"choices": [{"message": {"content": "a"}}]}'),
    ]
    assert ask(server) == Answer("", False, 0, 3)
    assert ask(server) == Answer("a", False, 0, 0)


@pytest.mark.parametrize("name", NONSENSE)
def test_kind7_reason_ends_in_one_line(
    reasoner: Callable[..., int], server: Server, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    server.usual = lambda prompt: NONSENSE[name]
    assert reasoner(request_retries=0, concurrency=1) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: 5 requests in a row got no answer")
    assert "malformed response" in error


def test_kind7_a_surrogate_in_an_error_is_written(server: Server, reasoner, tmp_path: Path) -> None:
    server.plan = [raw(b'{"error": {"message": "half \\ud800 letter"}}', 400)]
    assert reasoner(concurrency=1) == 0
    assert "HTTP 400" in (tmp_path / "out" / "profiles.jsonl").read_text(encoding="utf-8")


# -- no profile at all -------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["profiles", "all"])
@pytest.mark.parametrize("reply", [say(""), status(400), say("I'm sorry, I cannot do that.")])
def test_kind9_reason_without_a_single_profile_exits_1_and_says_so(
    reasoner, server: Server, capsys: pytest.CaptureFixture[str], stage: str, reply
) -> None:
    server.usual = lambda prompt: reply
    assert reasoner(stage=stage, answer_retries=0, concurrency=8, image_folder="none") == 1
    out, err = capsys.readouterr()
    assert "no answer was accepted: 0 of 6 profiles" in err and "0 of 6" in out
    server.usual = lambda prompt: say("Likes green things.")
    assert reasoner(answer_retries=1, concurrency=8, image_folder="none") == 0


# -- the key and the address -------------------------------------------------------------------


def files_with(text: str, folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return [str(path) for path in paths if text.encode() in path.read_bytes()]


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "THEIR_KEY"])
@pytest.mark.parametrize("code", [400, 401, 404, 500])
def test_kind10_a_key_that_the_server_repeats(
    reasoner, server: Server, work: Path, capsys, monkeypatch, code: int, variable: str
) -> None:
    monkeypatch.setenv(variable, CANARY)
    monkeypatch.setenv("RECBOLE_LLM_TRACEBACK", "1")
    server.plan = [echo_key(code)] * 20
    options = {"api_key_env": "THEIR_KEY"} if variable == "THEIR_KEY" else {}
    reasoner(base_url=f"{server.url}?token={CANARY}x", request_retries=0, **options)
    out, err = capsys.readouterr()
    assert CANARY not in out + err and not files_with(CANARY, work)


def test_kind10_a_key_in_an_accepted_answer(
    reasoner, server: Server, work: Path, monkeypatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    server.usual = lambda prompt: say(f"Likes {CANARY} things.")
    assert reasoner() == 0 and not files_with(CANARY, work)


def test_a_stand_in_for_a_key_changes_no_answer(reasoner, server: Server, work: Path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "green")
    server.usual = lambda prompt: say("Likes green things.")
    assert reasoner() == 0 and "***" not in (work / "out" / "profiles.jsonl").read_text()


def test_kind10_password_in_the_address(
    reasoner, server: Server, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = server.url.replace("http://", f"http://ann:{CANARY}@")
    assert reasoner(base_url=address) == 0
    server.close()
    assert reasoner(base_url=address, request_retries=0, max_history=2) == 2
    out, err = capsys.readouterr()
    assert "ann:***@127.0.0.1" in err
    assert CANARY not in out + err and not files_with(CANARY, work)
    assert "ann:***@" in (work / "out" / "report.json").read_text()


@pytest.mark.parametrize("end", ["\r\n", "\n", " ", "\r"])
def test_kind10_a_line_break_behind_the_key_is_no_part_of_it(
    server: Server, monkeypatch, end: str
) -> None:
    monkeypatch.setenv("MY_KEY", CANARY + end)
    assert isinstance(ask(server, api_key_env="MY_KEY"), Answer)


@pytest.mark.parametrize(
    "key", [f"a\n{CANARY}", f"{CANARY} b", f"\u00e4{CANARY}", f"{CANARY}\x7fb"]
)
def test_kind10_what_cannot_be_a_key_is_refused_without_being_shown(
    server: Server, monkeypatch, key: str
) -> None:
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(ValueError, match="MY_KEY does not hold a key") as error:
        ask(server, api_key_env="MY_KEY")
    assert CANARY not in str(error.value)


@pytest.mark.parametrize(
    "address",
    [
        f"http://ann:{CANARY}@h\n/v1",
        "localhost:11434/v1",
        "ftp://h/v1",
        "http://",
        "http://h:port/v1",
        "http://h:99999/v1",
        "http://[::1/v1",
        "http://h/v 1",
        "",
    ],
)
def test_kind7_what_is_no_address_is_refused(
    reasoner, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    assert reasoner(base_url=address) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "--base_url must be an address" in err and CANARY not in err
