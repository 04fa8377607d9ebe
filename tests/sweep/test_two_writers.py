"""Workers that start in the same moment enqueue a budget once, on files; servers: postgresql."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from recbole_llm.sweep.store import open_store
from recbole_llm.sweep.study import Queue

N_WORKERS, SIZE = 2, 20
OPEN = """
import sys
from recbole_llm.sweep.store import open_store
from recbole_llm.sweep.study import Queue
print("ready", flush=True)
sys.stdin.readline()
store = open_store(sys.argv[1], 1)
Queue(store, "s", {}, [{"x": i} for i in range(int(sys.argv[2]))])
"""


def open_together(url: str) -> Queue:
    """Open one study in several processes at the same moment; returns it."""
    command = [sys.executable, "-c", OPEN, url, str(SIZE)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, **pipes) for _ in range(N_WORKERS)]  # type: ignore[call-overload]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    assert [worker.wait(120) for worker in workers] == [0] * N_WORKERS
    return Queue(open_store(url, 1), "s", {}, [{"x": i} for i in range(SIZE)])


def assert_each_once(queue: Queue) -> None:
    slots = Counter(trial.user_attrs["slot"] for trial in queue.trials())
    assert slots == Counter(range(SIZE))


@pytest.mark.parametrize("name", ["sqlite:///{}/s.db", "{}/s.journal"])
def test_a_budget_is_enqueued_once(name: str, tmp_path: Path) -> None:
    assert_each_once(open_together(name.format(tmp_path)))
