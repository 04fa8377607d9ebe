"""Trying again: failures that may pass, growing waits, and pauses that all threads keep."""

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

LONGEST_WAIT_S = 600.0  # a server that asks for more is not worth waiting for within one run
_LONGEST_BACKOFF_S = 60.0

Result = TypeVar("Result")


class NetworkError(OSError):
    """A request that did not bring what was asked for.

    Attributes:
        reason: a few words without address or time, equal in every run that meets this failure.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


class PermanentError(NetworkError):
    """A failure that another attempt would meet again."""


class TransientError(NetworkError):
    """A failure that may pass.

    Attributes:
        wait_s: seconds that the server asks to wait (Retry-After), or None.
        has_progress: whether the attempt brought a part that the next one continues from.
    """

    def __init__(self, message: str, reason: str = "", wait_s: float | None = None) -> None:
        super().__init__(message, reason)
        self.wait_s = wait_s
        self.has_progress = False


def call_with_retries(
    attempt: Callable[[], Result],
    retries: int,
    backoff_s: float,
    wait: Callable[[TransientError, float], object],
) -> Result:
    """Call a function until it succeeds, fails for good, or has failed too often.

    Args:
        attempt: function that raises TransientError where another call may succeed.
        retries: failures in a row that are tried again; progress starts the count anew.
        backoff_s: seconds before the first retry, doubled each time.
        wait: function that is called before each retry with the failure and its back-off in
            seconds, and returns when the time has come.

    Returns:
        What ``attempt`` returned.

    Raises:
        TransientError: the last failure; no retry is left, or the server asks for a wait longer
            than ``LONGEST_WAIT_S``.
    """
    failures = 0
    while True:
        try:
            return attempt()
        except TransientError as error:
            failures = 1 if error.has_progress else failures + 1
            if failures > retries or (error.wait_s or 0.0) > LONGEST_WAIT_S:
                raise
            failure = error
        wait(failure, backoff(failures - 1, backoff_s))


def backoff(attempt: int, first_s: float) -> float:
    """Return the seconds to wait after a failed attempt, counted from 0.

    Doubled each time, and random: requests refused together must not return together.
    """
    return min(_LONGEST_BACKOFF_S, first_s * 2**attempt) * random.uniform(0.5, 1.0)


class RateLimiter:
    """Spaces requests evenly, and holds all of them back while the server asks for a pause.

    Args:
        requests_per_minute: highest rate, or None for no limit.
        stop: event that ends every wait.
    """

    def __init__(self, requests_per_minute: float | None, stop: threading.Event) -> None:
        self._gap = 60 / requests_per_minute if requests_per_minute else 0.0
        self._stop = stop
        self._lock = threading.Lock()
        self._next = 0.0

    def acquire(self) -> None:
        """Wait for the next free moment, or until everything stops."""
        while not self._stop.is_set():
            with self._lock:
                now = time.monotonic()
                if now >= self._next:
                    self._next = now + self._gap
                    return
                wait = self._next - now
            self._stop.wait(wait)

    def pause(self, seconds: float) -> None:
        """Let no request out for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)

    def wait(self, failure: TransientError, backoff_s: float) -> None:
        """Wait before a retry; a wait that the server asks for holds back every request."""
        if failure.wait_s is not None:
            self.pause(failure.wait_s)
            backoff_s *= random.uniform(0.0, 0.1)
        self._stop.wait(backoff_s)
