"""One HTTP client: its name, its time-outs, and which answers are failures of what kind."""

import email.utils
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import requests
import urllib3

from recbole_llm.net.public import NotPublicError, PublicAdapter
from recbole_llm.net.retry import NetworkError, PermanentError, TransientError
from recbole_llm.version import __version__

_MAX_REDIRECTS = 5
# Time-out, conflict, too early, too many requests: the same request may succeed later.
_PASSING = (408, 409, 425, 429)

#: Reason of a ``PrivateHostError``.
PRIVATE = "private address"


class UnreachableError(TransientError):
    """No connection to the server."""


class PrivateHostError(NetworkError):
    """A host of this machine or its network, which the session does not allow."""


def open_session(allow_private_hosts: bool = True) -> requests.Session:
    """Return a session that names this package to servers and follows few redirects.

    Args:
        allow_private_hosts: whether hosts of this machine and its network may be asked. False for
            addresses that a dataset holds: whoever wrote them must not reach what only this
            machine can.
    """
    session = requests.Session()
    if not allow_private_hosts:
        for scheme in ("http://", "https://"):
            session.mount(scheme, PublicAdapter())
    session.headers["User-Agent"] = f"recbole-llm/{__version__}"
    session.max_redirects = _MAX_REDIRECTS
    return session


@contextmanager
def get(
    session: requests.Session,
    url: str,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
) -> Iterator[requests.Response]:
    """Send a GET request; the body is read from ``response.raw`` inside the ``with`` block.

    Args:
        session: session from ``open_session``, used by one thread.
        url: address.
        timeout_s: seconds without a byte, while connecting and while reading.
        headers: headers of this request alone.

    Yields:
        The response, whatever its status; ``status_error`` makes an exception of it.

    Raises:
        TransientError: the server is slow or dropped the connection, reading the body included;
            UnreachableError where there was no connection.
        PermanentError: the address is invalid, or redirects lead round in circles.
        PrivateHostError: the address, or a redirect, leads to a host that is not allowed.
    """
    try:
        with session.get(url, stream=True, timeout=timeout_s, headers=headers) as response:
            yield response
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise slow_error(timeout_s) from error
    except requests.ConnectionError as error:
        raise UnreachableError(f"no connection: {_cause(error)}", "connection failed") from error
    except urllib3.exceptions.HTTPError as error:
        message = f"the connection broke: {_cause(error)}"
        raise TransientError(message, "connection dropped midway") from error
    except NotPublicError as error:
        raise PrivateHostError(f"{PRIVATE} {error}", PRIVATE) from error
    except requests.TooManyRedirects as error:
        raise PermanentError("too many redirects") from error
    except (requests.RequestException, UnicodeError) as error:
        raise PermanentError("invalid URL") from error


def slow_error(limit_s: float) -> TransientError:
    """Return the failure of an answer that takes longer than ``limit_s`` seconds."""
    return TransientError(f"no answer within {limit_s:g} s")


def status_error(response: requests.Response) -> NetworkError:
    """Return the failure that a response's status stands for, transient if it may pass."""
    reason = f"HTTP {response.status_code}"
    message = f"{reason} {response.reason}"
    if not may_pass(response.status_code):
        return PermanentError(message, reason)
    return TransientError(message, reason, retry_after(response.headers))


def may_pass(status: int) -> bool:
    """Return whether a request that was answered with this status may succeed later."""
    return status >= 500 or status in _PASSING


def is_html(data: bytes) -> bool:
    """Return whether bytes begin as an HTML page does, such as an error page in place of a file."""
    return data[:512].lstrip().lower().startswith((b"<!doctype html", b"<html"))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a Retry-After header asks for (seconds or a date), or None.

    Args:
        headers: headers whose names are compared without case, or in lower case.
    """
    text = (headers.get("retry-after") or "").strip()
    with suppress(ValueError):
        return max(0.0, float(text))
    with suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    return None


def _cause(error: BaseException) -> str:
    """Return the text of the innermost cause; the outer ones repeat it and the address."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__
