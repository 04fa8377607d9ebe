"""Ask a list of questions: answers come from the store first, and are stored at once."""

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
    """A prompt and the token of the item or user that it is about."""

    name: str
    prompt: str
    image: Path | None = None


class Outcome(NamedTuple):
    """Outcome of a question.

    Attributes:
        text: accepted answer, or None.
        reason: why there is no text; empty where there is one.
        key: key of the last answer in the store.
        attempts: number of times the question was asked.
        is_trimmed: whether an over-long answer was cut.
    """

    text: str | None
    reason: str
    key: str
    attempts: int
    is_trimmed: bool = False


class Policy(NamedTuple):
    """Which answers are accepted, and how often another one is asked for."""

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

    An answer that is not accepted is asked for again, ``policy.retries`` times, sampled with
    another seed each time. Answers are stored as they arrive, so that a killed call can be
    repeated without asking anything twice.

    Raises:
        ValueError, OSError: the back end or the store fails.
    """
    begin = time.monotonic()
    with tqdm(
        total=len(questions), unit=unit, disable=not show_progress, dynamic_ncols=True
    ) as bar:
        inquiry = _Inquiry(backend, store, policy, bar)
        pending = list(questions)
        for number in range(policy.retries + 1):
            if not pending:
                break
            inquiry.usage.retried += len(pending) if number else 0
            pending = inquiry.attempt(number, pending)
    outcomes, usage = inquiry.outcomes, inquiry.usage
    usage.seconds = time.monotonic() - begin
    for outcome in outcomes.values():
        usage.trimmed += outcome.is_trimmed
        if outcome.text is None:
            kind = outcome.reason.partition(":")[0]
            usage.failures[kind] = usage.failures.get(kind, 0) + 1
    return outcomes, usage


class _Inquiry:
    """Questions on their way to outcomes, over several attempts."""

    def __init__(
        self, backend: Backend, store: AnswerStore, policy: Policy, bar: tqdm[Any]
    ) -> None:
        self.backend, self.store, self.policy, self.bar = backend, store, policy, bar
        self.outcomes: dict[str, Outcome] = {}
        self.usage = Usage()

    def attempt(self, number: int, questions: list[Question]) -> list[Question]:
        """Ask once, from the store where it can; return the questions to ask again."""
        decoding, rejected = self.policy.decoding.attempt(number), []
        requests: dict[str, Request] = {}
        fields: dict[str, dict[str, Any]] = {}
        waiting: dict[str, list[Question]] = {}
        for question in questions:
            asked = {
                "prompt": question.prompt,
                "image": image_digest(question.image),
                **self.backend.identity,
                "decoding": decoding.fields(),
            }
            key = request_key(asked)
            stored = self.store.get(key)
            if stored is None:
                fields[key] = asked
                requests[key] = Request(key, question.prompt, question.image, decoding)
                waiting.setdefault(key, []).append(question)
                continue
            self.usage.from_store += 1
            if not self._settle(number, question, key, stored.answer):
                rejected.append(question)
        if requests:
            for request, reply in self.backend.ask(list(requests.values())):
                self._count(fields[request.key], reply)
                for question in waiting[request.key]:
                    if not self._settle(number, question, request.key, reply):
                        rejected.append(question)
        return rejected

    def _count(self, fields: dict[str, Any], reply: Answer | NoAnswer) -> None:
        """Store an answer and count its tokens."""
        if isinstance(reply, Answer):
            self.store.put(fields, reply)
            self.usage.prompt_tokens += reply.prompt_tokens
            self.usage.output_tokens += reply.output_tokens
        self.usage.asked += 1
        usage = self.usage
        self.bar.set_postfix_str(f"tokens in {usage.prompt_tokens:,} out {usage.output_tokens:,}")

    def _settle(self, number: int, question: Question, key: str, reply: Answer | NoAnswer) -> bool:
        """Keep the outcome of a reply; False if the question is to be asked again."""
        if isinstance(reply, NoAnswer):  # not stored: the next run asks again
            outcome = Outcome(None, f"no answer: {reply.reason}", key, number + 1)
        else:
            reason = flaw(reply, self.policy.max_words)
            if reason is None:
                outcome = Outcome(reply.text.strip(), "", key, number + 1)
            elif reason == "over-long" and self.policy.trims:
                text = trim(reply.text, self.policy.max_words)
                outcome = Outcome(text, "", key, number + 1, is_trimmed=True)
            elif number < self.policy.retries:
                return False
            else:
                outcome = Outcome(None, reason, key, number + 1)
        self.outcomes[question.name] = outcome
        self.bar.update()
        return True
