import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recbole_llm.profiles.answer import Answer, Decoding
from recbole_llm.profiles.store import AnswerStore, request_key

REQUEST = {
    "prompt": "p",
    "image": None,
    "backend": "openai",
    "model": "m",
    "revision": "1",
    "decoding": Decoding(10, 0.5, 0.9, 1).fields(),
}


def test_key_changes_with_each_ingredient():
    changed = [
        {"prompt": "q"},
        {"image": "abc"},
        {"backend": "transformers"},
        {"model": "n"},
        {"revision": "2"},
        {"decoding": Decoding(11, 0.5, 0.9, 1).fields()},
        {"decoding": Decoding(10, 0.6, 0.9, 1).fields()},
        {"decoding": Decoding(10, 0.5, 0.8, 1).fields()},
        {"decoding": Decoding(10, 0.5, 0.9, 2).fields()},
        {"decoding": Decoding(10).fields()},
    ]
    keys = {request_key(REQUEST), *(request_key(REQUEST | change) for change in changed)}
    assert len(keys) == len(changed) + 1
    assert request_key(dict(reversed(REQUEST.items()))) == request_key(REQUEST)


def test_greedy_answers_do_not_depend_on_the_seed_and_retries_do():
    assert Decoding(10, seed=1).fields() == Decoding(10, seed=2).fields()
    attempts = [str(Decoding(10, seed=1).attempt(n).fields()) for n in range(4)]
    assert len(set(attempts)) == 4


def test_round_trip_and_first_answer_stays(tmp_path):
    answer = Answer("text \N{SNOWMAN}\n", True, 3, 4)
    with AnswerStore(tmp_path / "sub" / "s.sqlite") as store:
        key = store.put(REQUEST, answer)
        assert store.put(REQUEST, Answer("other")) == key
    with AnswerStore(tmp_path / "sub" / "s.sqlite") as store:
        assert store.get(key) == (REQUEST, answer)
        assert store.get("none") is None and len(store) == 1


def write_many(path, worker):
    with AnswerStore(path) as store:
        for n in range(50):
            store.put(REQUEST | {"prompt": f"{worker if n % 2 else 'shared'} {n}"}, Answer("x"))


def test_concurrent_writers(tmp_path):
    context = multiprocessing.get_context("fork")
    path = tmp_path / "s.sqlite"
    workers = [context.Process(target=write_many, args=(path, n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    with AnswerStore(path) as store:
        assert len(store) == 25 + 3 * 25


def test_killed_writer_leaves_whole_answers(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from recbole_llm.profiles.store import AnswerStore\n"
        "from recbole_llm.profiles.answer import Answer\n"
        "store = AnswerStore(Path(sys.argv[1]))\n"
        "for n in range(10**6):\n"
        "    store.put({'prompt': str(n)}, Answer('x' * 20000))\n"
        "    print(n, flush=True)\n"
    )
    path = tmp_path / "s.sqlite"
    command = [sys.executable, "-c", code, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(20)]
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    said += process.stdout.readlines()
    process.wait()
    with AnswerStore(path) as store:
        for n in range(len([line for line in said if line.endswith("\n")])):
            stored = store.get(request_key({"prompt": str(n)}))
            assert stored is not None and stored.answer.text == "x" * 20000


def test_no_store(tmp_path: Path):
    (tmp_path / "s.sqlite").write_text("this is no database, but a text of some length" * 50)
    with pytest.raises(ValueError, match=r"s\.sqlite is damaged or no SQLite file"):
        AnswerStore(tmp_path / "s.sqlite")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="store of answers .*folder"):
        AnswerStore(tmp_path / "folder")
