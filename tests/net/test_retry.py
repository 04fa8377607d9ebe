"""The loop of retries, and the limiter that holds threads back."""

import random
import threading
import time

import pytest

from recbole_llm.net.retry import (
    LONGEST_WAIT_S,
    PermanentError,
    RateLimiter,
    TransientError,
    backoff,
    call_with_retries,
)


class Attempt:
    """Raises the planned failures one after the other, then returns how often it was called."""

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.calls = list(failures), 0

    def __call__(self) -> int:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return self.calls


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the list of back-offs, which are free of chance."""
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    return []


def call(attempt: Attempt, retries: int, waits: list[float]) -> int:
    return call_with_retries(
        attempt, retries, 1.0, lambda error, backoff_s: waits.append(backoff_s)
    )


def progress() -> TransientError:
    error = TransientError("part")
    error.has_progress = True
    return error


def test_back_off_doubles_until_the_attempt_succeeds(waits: list[float]) -> None:
    assert call(Attempt(*map(TransientError, "abc")), 3, waits) == 4
    assert waits == [1.0, 2.0, 4.0]


def test_the_last_failure_is_raised(waits: list[float]) -> None:
    attempt = Attempt(*map(TransientError, "abc"))
    with pytest.raises(TransientError, match="^c$"):
        call(attempt, 2, waits)
    assert attempt.calls == 3 and waits == [1.0, 2.0]


def test_progress_starts_the_count_anew(waits: list[float]) -> None:
    failures = [TransientError("a"), progress(), progress(), TransientError("b"), progress()]
    assert call(Attempt(*failures), 2, waits) == 6
    assert waits == [1.0, 1.0, 1.0, 2.0, 1.0]


@pytest.mark.parametrize("error", [PermanentError("gone"), ValueError("gone"), OSError("gone")])
def test_what_stays_is_not_tried_again(waits: list[float], error: Exception) -> None:
    attempt = Attempt(error)
    with pytest.raises(type(error), match="gone"):
        call(attempt, 5, waits)
    assert attempt.calls == 1 and waits == []


def test_a_wait_of_hours_is_not_waited_for(waits: list[float]) -> None:
    long = TransientError("busy", wait_s=LONGEST_WAIT_S + 1)
    with pytest.raises(TransientError, match="busy"):
        call(Attempt(long), 5, waits)
    assert call(Attempt(TransientError("busy", wait_s=LONGEST_WAIT_S)), 5, waits) == 2


def test_back_off_is_bounded_and_random() -> None:
    values = [backoff(attempt, 1.0) for attempt in range(20) for _ in range(50)]
    assert 0.5 <= min(values) < 1.0 and 30.0 <= max(values[-50:]) <= 60.0
    assert len(set(values)) == len(values)


def test_a_pause_that_a_server_asks_for_holds_back_the_next_request() -> None:
    limiter = RateLimiter(None, threading.Event())
    begin = time.monotonic()
    limiter.acquire()
    assert time.monotonic() - begin < 0.1
    limiter.wait(TransientError("busy", wait_s=0.2), backoff_s=0.01)
    assert time.monotonic() - begin < 0.15
    limiter.acquire()
    assert time.monotonic() - begin >= 0.2


def test_nothing_waits_once_everything_stops() -> None:
    stop = threading.Event()
    limiter = RateLimiter(1.0, stop)
    limiter.acquire()
    threading.Timer(0.05, stop.set).start()
    begin = time.monotonic()
    limiter.acquire()
    limiter.wait(TransientError("busy"), backoff_s=60.0)
    assert time.monotonic() - begin < 5.0
