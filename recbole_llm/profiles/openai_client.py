"""Any server that speaks OpenAI's protocol (Ollama, vLLM, llama.cpp), many requests at a time.

Retries, waiting and rate limits are ours and not the client's, so that a server's Retry-After
holds back every request and not the refused one alone.
"""

from __future__ import annotations

import base64
import mimetypes
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from recbole_llm.net.http import UnreachableError, may_pass, retry_after, slow_error
from recbole_llm.net.retry import LONGEST_WAIT_S, RateLimiter, TransientError, call_with_retries
from recbole_llm.profiles.answer import Answer, NoAnswer, Request


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
        ValueError: the variable that was named is not set.
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
        key = os.environ.get(api_key_env or "OPENAI_API_KEY")
        if api_key_env and not key:
            raise ValueError(f"--api_key_env={api_key_env}: this variable is not set or empty.")
        self.model, self.base_url, self.revision = model, base_url, revision
        self.transport = transport or Transport()
        self._client = openai.OpenAI(
            base_url=base_url,
            api_key=key or "none",
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
        todo: queue.SimpleQueue[Request] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[Request, Answer | NoAnswer | Exception]] = queue.SimpleQueue()
        for request in requests:
            todo.put(request)
        stop = threading.Event()
        limiter = RateLimiter(self.transport.requests_per_minute, stop)

        def work() -> None:
            with suppress(queue.Empty):
                while not stop.is_set():
                    request = todo.get_nowait()
                    try:
                        done.put((request, self._try(request, limiter, stop)))
                    except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                        done.put((request, error))

        # Daemons: Ctrl-C must not wait for a server that takes its time.
        for _ in range(min(self.transport.concurrency, len(requests))):
            threading.Thread(target=work, daemon=True).start()
        unanswered, is_down = 0, True
        try:
            for number in range(1, len(requests) + 1):
                request, reply = done.get()
                if isinstance(reply, Exception):
                    raise reply
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
        finally:
            stop.set()

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
            raise UnreachableError(f"connection failed: {error.__cause__ or error}") from error
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
        except ValueError as error:  # a body that is not JSON; openai's own errors are no such
            raise _MalformedError(str(error)) from error
        try:
            choice, usage = completion.choices[0], completion.usage
            return Answer(
                str(choice.message.content or ""),
                choice.finish_reason == "length",
                int(getattr(usage, "prompt_tokens", 0) or 0),
                int(getattr(usage, "completion_tokens", 0) or 0),
            )
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise _MalformedError(f"no choices in {str(completion)[:100]!r}") from error


class _MalformedError(Exception):
    """A response that is not what the protocol says."""


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
