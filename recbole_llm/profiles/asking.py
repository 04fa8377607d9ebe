"""Ask a list of questions: from the store where it can, stored at once, retried where need be."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from recbole_llm.profiles.answer import (
    Answer,
    Backend,
    Decoding,
    NoAnswer,
    Request,
    flaw,
    image_digest,
    trim,
)
from recbole_llm.profiles.store import AnswerStore, request_key


class Question(NamedTuple):
    """A prompt under the name of what it is about: an item's or a user's token."""

    name: str
    prompt: str
    image: Path | None = None


class Outcome(NamedTuple):
    """A question's text or, where it is None, the reason; ``key`` is the last one's in the store.

    ``is_trimmed`` says that an over-long answer was cut.
    """

    text: str | None
    reason: str
    key: str
    attempts: int
    is_trimmed: bool = False


class Policy(NamedTuple):
    """What is a good answer, and what to do without one."""

    decoding: Decoding
    max_words: int
    retries: int = 2
    trims: bool = False


@dataclass
class Usage:
    """What a stage asked: requests by where the answer came from, tokens and seconds."""

    asked: int = 0
    from_store: int = 0
    retried: int = 0
    trimmed: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values, with the rate of new answers."""
        rate = self.output_tokens / self.seconds if self.seconds else 0.0
        return asdict(self) | {"output_tokens_per_s": round(rate, 2)}


def ask_all(
    questions: Sequence[Question],
    backend: Backend,
    store: AnswerStore,
    policy: Policy,
    *,
    unit: str,
    show_progress: bool = True,
) -> tuple[dict[str, Outcome], Usage]:
    """Answer every question, the same prompt once, and return outcomes by name.

    An answer that will not do is asked for again, ``policy.retries`` times, sampled with another
    seed each time. Answers are stored as they arrive, so that this call can be killed and repeated.

    Raises:
        ValueError, OSError: of the back end or the store.
    """
    outcomes: dict[str, Outcome] = {}
    usage, begin = Usage(), time.monotonic()
    pending = list(questions)
    with tqdm(
        total=len(questions), unit=unit, disable=not show_progress, dynamic_ncols=True
    ) as bar:
        for attempt in range(policy.retries + 1):
            if not pending:
                break
            usage.retried += len(pending) if attempt else 0
            pending = _attempt(attempt, pending, backend, store, policy, outcomes, usage, bar)
    usage.seconds = time.monotonic() - begin
    for outcome in outcomes.values():
        usage.trimmed += outcome.is_trimmed
        if outcome.text is None:
            kind = outcome.reason.partition(":")[0]
            usage.failures[kind] = usage.failures.get(kind, 0) + 1
    return outcomes, usage


def _attempt(
    attempt: int,
    questions: list[Question],
    backend: Backend,
    store: AnswerStore,
    policy: Policy,
    outcomes: dict[str, Outcome],
    usage: Usage,
    bar: tqdm[Any],
) -> list[Question]:
    """Settle what one attempt can; returns the questions that need another."""
    decoding, again = policy.decoding.attempt(attempt), []
    last = attempt == policy.retries
    requests: dict[str, Request] = {}
    fields: dict[str, dict[str, Any]] = {}
    waiting: dict[str, list[Question]] = {}

    def settle(question: Question, key: str, reply: Answer | NoAnswer) -> None:
        if isinstance(reply, NoAnswer):  # not stored: the next run asks again
            outcome = Outcome(None, f"no answer: {reply.reason}", key, attempt + 1)
        else:
            reason = flaw(reply, policy.max_words)
            if reason is None:
                outcome = Outcome(reply.text.strip(), "", key, attempt + 1)
            elif reason == "over-long" and policy.trims:
                text = trim(reply.text, policy.max_words)
                outcome = Outcome(text, "", key, attempt + 1, is_trimmed=True)
            elif not last:
                again.append(question)
                return
            else:
                outcome = Outcome(None, reason, key, attempt + 1)
        outcomes[question.name] = outcome
        bar.update()

    for question in questions:
        asked = {
            "prompt": question.prompt,
            "image": image_digest(question.image),
            **backend.identity,
            "decoding": decoding.fields(),
        }
        key = request_key(asked)
        stored = store.get(key)
        if stored is not None:
            usage.from_store += 1
            settle(question, key, stored.answer)
            continue
        fields[key] = asked
        requests[key] = Request(key, question.prompt, question.image, decoding)
        waiting.setdefault(key, []).append(question)
    if not requests:
        return again
    for request, reply in backend.ask(list(requests.values())):
        if isinstance(reply, Answer):
            store.put(fields[request.key], reply)
            usage.prompt_tokens += reply.prompt_tokens
            usage.output_tokens += reply.output_tokens
        usage.asked += 1
        for question in waiting[request.key]:
            settle(question, request.key, reply)
        bar.set_postfix_str(f"tokens in {usage.prompt_tokens:,} out {usage.output_tokens:,}")
    return again
