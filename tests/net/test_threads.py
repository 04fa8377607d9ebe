import threading
import time
from contextlib import contextmanager, nullcontext

import pytest

from recbole_llm.net.threads import work_through


def test_every_task_has_its_result_once():
    opened, closed = [], []

    @contextmanager
    def worker():
        opened.append(threading.get_ident())
        yield lambda task: task * task
        closed.append(threading.get_ident())

    stop = threading.Event()
    found = dict(work_through(range(50), worker, 4, stop))
    assert found == {task: task * task for task in range(50)}
    assert stop.is_set() and len(opened) <= 4
    until = time.monotonic() + 5
    while len(closed) < len(opened) and time.monotonic() < until:
        time.sleep(0.01)
    assert sorted(closed) == sorted(opened)


def test_no_task_needs_no_thread():
    def worker():
        raise AssertionError("a thread was started")

    assert not list(work_through([], worker, 4, threading.Event()))


def test_an_error_is_raised_and_stops_the_others():
    done = []

    def run(task):
        if task == 3:
            raise OSError("disk full")
        done.append(task)
        return task

    stop = threading.Event()
    with pytest.raises(OSError, match="disk full"):
        list(work_through(range(10_000), lambda: nullcontext(run), 1, stop))
    assert stop.is_set() and len(done) < 10_000


def test_closing_stops_the_threads():
    stop, begun = threading.Event(), []

    def run(task):
        begun.append(task)
        stop.wait(0.01)
        return task

    results = work_through(range(10_000), lambda: nullcontext(run), 2, stop)
    next(results)
    results.close()
    assert stop.is_set()
    count = len(begun)
    time.sleep(0.05)
    assert len(begun) <= count + 2
