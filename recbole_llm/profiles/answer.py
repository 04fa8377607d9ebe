"""Requests to a model, its answers, and which answers are rejected."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from recbole_llm.files import sha256_of

#: An answer may be this much longer than it was asked to be before it counts as over-long.
WORDS_SLACK = 1.25
#: Temperature of a retry where the first answer was greedy and would only repeat itself.
RETRY_TEMPERATURE = 0.7

_REFUSAL = re.compile(
    r"\W*(?:(?:i'?m|i am) (?:very |so )?sorry\b|sorry, (?:but )?i\b|i apologi[sz]e\b"
    r"|(?:unfortunately,? )?i (?:can'?t|can ?not|am (?:not able|unable)|'?m (?:not able|unable))\b"
    r"|i'm (?:not able|unable)\b|as an? (?:ai|(?:large )?language model)\b)",
    re.IGNORECASE,
)


_SENTENCE_END = re.compile(r"""[^\W\d][.!?]["')]*$""")  # no "1." of a list


class Decoding(NamedTuple):
    """How an answer is drawn: greedy at temperature 0, else sampled with a seed."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def attempt(self, number: int) -> Decoding:
        """Return the parameters of the attempt ``number``, which never repeat an earlier one's."""
        if number == 0:
            return self
        return self._replace(
            temperature=self.temperature or RETRY_TEMPERATURE, seed=self.seed + number
        )

    def fields(self) -> dict[str, Any]:
        """Return what an answer depends on: greedy decoding has neither a seed nor a top_p."""
        fields = self._asdict()
        if not self.temperature:
            del fields["seed"], fields["top_p"]
        return fields


class Request(NamedTuple):
    """One request; ``key`` is its key in the store."""

    key: str
    prompt: str
    image: Path | None
    decoding: Decoding


class Answer(NamedTuple):
    """A model's text; ``is_cut`` when it ran into ``max_new_tokens``; tokens 0 where unknown."""

    text: str
    is_cut: bool = False
    prompt_tokens: int = 0
    output_tokens: int = 0


class NoAnswer(NamedTuple):
    """Why a request came back without an answer, after all retries of the transport.

    ``is_unreachable`` says that no connection was made at all.
    """

    reason: str
    is_unreachable: bool = False


class Backend(Protocol):
    """A model that answers requests."""

    @property
    def identity(self) -> dict[str, Any]:
        """Back end, model and revision: what an answer depends on besides the request."""

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        """Yield each request with its answer as soon as it arrives, in any order."""


def flaw(answer: Answer, max_words: int) -> str | None:
    """Return why an answer is rejected (empty, refused or over-long), or None if it is accepted."""
    text = answer.text.strip()
    if not text:
        return "empty"
    if _REFUSAL.match(text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")):
        return "refused"
    if answer.is_cut or len(text.split()) > WORDS_SLACK * max_words:
        return "over-long"
    return None


def trim(text: str, max_words: int) -> str:
    """Cut a text to whole sentences of at most ``max_words`` words, or else to so many words."""
    words = text.split()[:max_words]
    ends = [n for n, word in enumerate(words, start=1) if _SENTENCE_END.search(word)]
    return " ".join(words[: ends[-1]] if ends and ends[-1] > len(words) // 2 else words)


def image_digest(path: Path | None) -> str | None:
    """Return the sha256 of an image file's bytes."""
    return None if path is None else sha256_of(path)
