"""Waiting for servers: what Retry-After asks for, back-off, and pauses that all threads keep."""

import email.utils
import random
import threading
import time
from contextlib import suppress
from typing import Any

LONGEST_WAIT_S = 600.0  # a server that asks for more is not worth waiting for within one run


class RateLimiter:
    """Spaces requests evenly, and holds all of them back while the server asks for a pause."""

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


def backoff(attempt: int, first_s: float) -> float:
    """Return the seconds to wait after a failed attempt, counted from 0.

    Doubled each time, and random: requests refused together must not return together.
    """
    return min(60.0, first_s * 2**attempt) * random.uniform(0.5, 1.0)


def retry_after(headers: Any) -> float | None:
    """Return the seconds that a Retry-After header asks for (seconds or a date), or None."""
    text = str(headers.get("retry-after") or "").strip()
    with suppress(ValueError):
        return max(0.0, float(text))
    with suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    return None
