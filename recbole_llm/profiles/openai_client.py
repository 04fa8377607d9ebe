"""Any server that speaks OpenAI's protocol (Ollama, vLLM, llama.cpp), many requests at a time.

Retries, waiting and rate limits are ours and not the client's, so that a server's Retry-After
holds back every request and not the refused one alone.
"""

from __future__ import annotations

import base64
import mimetypes
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any, NamedTuple

from recbole_llm.net.http import UnreachableError, may_pass, retry_after, slow_error
from recbole_llm.net.retry import LONGEST_WAIT_S, RateLimiter, TransientError, call_with_retries
from recbole_llm.net.threads import work_through
from recbole_llm.profiles.answer import Answer, NoAnswer, Request
from recbole_llm.secrets import mask_known, mask_secrets, mask_url, remember_variable

# More tokens than any request has; SQLite's integers end at 2**63.
_MOST_TOKENS = 2**53
_NO_KEY = "none"  # openai insists on a key; local servers ignore it


class Transport(NamedTuple):
    """Time-out in seconds, retries, first wait, concurrent requests and requests a minute."""

    timeout_s: float = 120.0
    retries: int = 5
    backoff_s: float = 1.0
    concurrency: int = 4
    requests_per_minute: float | None = None


class OpenAIBackend:
    """Chat completions of one model on one server.

    Args:
        model: model name on the server.
        base_url: address of the server, for example ``http://localhost:11434/v1`` (Ollama).
        api_key_env: environment variable that holds the key; local servers need none.
        revision: what the user knows about the model's version; part of the answers' identity.
        transport: time-outs, retries and limits.

    Raises:
        ImportError: the package openai is not installed.
        ValueError: the variable that was named is not set, or holds what cannot be a key.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        api_key_env: str | None = None,
        revision: str | None = None,
        transport: Transport | None = None,
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise ImportError(
                "--backend=openai needs the package openai. Run: pip install 'openai>=2'"
            ) from error
        key = _read_key(api_key_env)
        self.model, self.base_url, self.revision = model, mask_url(base_url), revision
        self.transport = transport or Transport()
        self._client = openai.OpenAI(
            base_url=base_url,
            api_key=key,
            max_retries=0,
            timeout=self.transport.timeout_s,
        )

    @property
    def identity(self) -> dict[str, Any]:
        """Without the address: the same model on another port is the same model."""
        return {"backend": "openai", "model": self.model, "revision": self.revision}

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        """Yield requests with their answers as they arrive.

        Raises:
            ValueError: the server refuses the key, or does not have the model.
            ConnectionError: many requests in a row went without an answer.
        """
        stop = threading.Event()
        limiter = RateLimiter(self.transport.requests_per_minute, stop)

        def worker() -> AbstractContextManager[Callable[[Request], Answer | NoAnswer]]:
            return nullcontext(lambda request: self._try(request, limiter, stop))

        unanswered, is_down = 0, True
        with closing(work_through(requests, worker, self.transport.concurrency, stop)) as replies:
            for number, (request, reply) in enumerate(replies, start=1):
                unanswered = unanswered + 1 if isinstance(reply, NoAnswer) else 0
                is_down = is_down and isinstance(reply, NoAnswer) and reply.is_unreachable
                yield request, reply
                if isinstance(reply, NoAnswer) and (
                    unanswered >= max(5, 2 * self.transport.concurrency)
                    or (is_down and number == len(requests))
                ):
                    raise ConnectionError(
                        f"{unanswered} requests in a row got no answer from {self.base_url} "
                        f"(last: {reply.reason}). Is the server up? Answers so far are kept; the "
                        f"same command resumes."
                    )

    def _try(
        self, request: Request, limiter: RateLimiter, stop: threading.Event
    ) -> Answer | NoAnswer:
        """Ask until there is an answer, an error that no retry can fix, or no retry left."""
        transport = self.transport

        def attempt() -> Answer | NoAnswer:
            limiter.acquire()
            return NoAnswer("stopped") if stop.is_set() else self._attempt(request)

        try:
            return call_with_retries(attempt, transport.retries, transport.backoff_s, limiter.wait)
        except TransientError as error:
            if error.wait_s is not None and error.wait_s > LONGEST_WAIT_S:
                return NoAnswer(f"{error} (Retry-After: {error.wait_s:.0f} s)")
            is_unreachable = isinstance(error, UnreachableError)
            return NoAnswer(f"{error} (after {transport.retries + 1} tries)", is_unreachable)

    def _attempt(self, request: Request) -> Answer | NoAnswer:
        """Ask once, and tell the failures that may pass from the others.

        Raises:
            TransientError: another try may bring an answer.
            ValueError: the server refuses the key, or does not have the model.
        """
        import openai

        try:
            return self._ask_once(request)
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise ValueError(
                f"{self.base_url} refuses the key: {_short(error)}. --api_key_env=NAME names "
                f"the environment variable that holds it."
            ) from error
        except openai.NotFoundError as error:
            raise ValueError(
                f"{self.base_url} does not have model {self.model!r} (or is no OpenAI-"
                f"compatible address, which mostly ends in /v1): {_short(error)}"
            ) from error
        except openai.APIStatusError as error:
            reason = f"HTTP {error.status_code}: {_short(error)}"
            if not may_pass(error.status_code):
                return NoAnswer(reason)  # the request itself is at fault, e.g. too long
            wait_s = retry_after(error.response.headers)
            raise TransientError(reason, wait_s=wait_s) from error
        except openai.APITimeoutError as error:
            raise slow_error(self.transport.timeout_s) from error
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise UnreachableError(f"connection failed: {_short(cause)}") from error
        except _MalformedError as error:
            raise TransientError(f"malformed response: {error}") from error

    def _ask_once(self, request: Request) -> Answer:
        content: Any = request.prompt
        if request.image is not None:
            kind = mimetypes.guess_type(request.image.name)[0] or "image/jpeg"
            data = base64.b64encode(request.image.read_bytes()).decode()
            content = [
                {"type": "text", "text": request.prompt},
                {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}},
            ]
        decoding = request.decoding
        options: dict[str, Any] = {"temperature": decoding.temperature}
        if decoding.temperature:
            options |= {"top_p": decoding.top_p, "seed": decoding.seed}
        # max_tokens, though OpenAI's own newest models want another name: local servers know it.
        try:
            completion = self._client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": content}],
                max_tokens=decoding.max_new_tokens,
                **options,
            )
        # A body that is no JSON, or nested without end; openai's own errors are neither.
        except (ValueError, RecursionError) as error:
            raise _MalformedError(_short(error)) from error
        answer = _read_answer(completion)
        return answer._replace(text=mask_known(answer.text))


class _MalformedError(Exception):
    """A response that is not what the protocol says."""


def _read_key(variable: str | None) -> str:
    """Return the key in an environment variable, or ``_NO_KEY``.

    Raises:
        ValueError: the variable that was named is not set, or its value cannot be a key, such as
            a text of two lines. The value itself is not in the text.
    """
    name = variable or "OPENAI_API_KEY"
    remember_variable(name)
    key = os.environ.get(name, "").strip()  # a key read from a file ends with the file's last line
    if variable and not key:
        raise ValueError(f"--api_key_env={variable}: this variable is not set or empty.")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ValueError(
            f"the environment variable {name} does not hold a key: there is a blank, a line break "
            f"or a letter beyond ASCII inside it."
        )
    return key or _NO_KEY


def _read_answer(completion: Any) -> Answer:
    """Return the answer in a completion, whose fields openai does not check.

    Raises:
        _MalformedError: it has no choices, or a field is not of its type.
    """
    try:
        choice, usage = completion.choices[0], completion.usage
        content, is_cut = choice.message.content, choice.finish_reason == "length"
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise _MalformedError("no choices in it") from error
    if not isinstance(content, (str, type(None))):
        raise _MalformedError(f"content is a {type(content).__name__} and not a text")
    text = content or ""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise _MalformedError("content holds half a character (a lone surrogate)")
    counts = (_count(usage, name) for name in ("prompt_tokens", "completion_tokens"))
    return Answer(text, is_cut, *counts)


def _count(usage: Any, name: str) -> int:
    """Return a number of tokens; 0 where the server does not count them."""
    count = getattr(usage, name, None)
    if count is None:
        return 0
    if not isinstance(count, int) or not 0 <= count < _MOST_TOKENS:
        raise _MalformedError(f"{name} is not a number of tokens")
    return count


def _short(error: BaseException) -> str:
    """Return an error's text as part of a line: short, without secrets and lone surrogates."""
    try:
        text = str(error)
    except RecursionError:  # of a body that is nested without end
        text = type(error).__name__
    text = text[:10_000].encode("utf-8", "replace").decode()
    return mask_secrets(" ".join(text.split()))[:200]
