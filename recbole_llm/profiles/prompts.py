"""Prompts 1 and 2: templates, texts of items cut by tokens, and their rendering."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from recbole_llm.llm.prompt_files import PLACEHOLDER, load_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FIELD = re.compile(r"\{(items|dataset|max_words)\}")
SEPARATOR = "; "


def load_image_prompt(name_or_path: str) -> str:
    """Read Prompt 1, in which ``{dataset}`` and ``{max_words}`` are filled in."""
    return load_prompt(name_or_path, placeholder=None)


def load_profile_prompt(name_or_path: str) -> str:
    """Read Prompt 2, which must hold ``{items}`` once; ``{dataset}``, ``{max_words}`` may be in.

    Raises:
        FileNotFoundError: there is no such prompt.
        ValueError: ``{items}`` is not there exactly once.
    """
    return load_prompt(name_or_path, placeholder=PLACEHOLDER)


def render(template: str, *, dataset: str, max_words: int, items: Sequence[str] = ()) -> str:
    """Fill a template in one pass, so that braces inside an item's text stay text."""
    values = {"items": SEPARATOR.join(items), "dataset": dataset, "max_words": str(max_words)}
    return _FIELD.sub(lambda match: values[match.group(1)], template)


def item_description(text: str, image_description: str) -> str:
    """Join an item's own text and its image's description (eq. 2)."""
    return " ".join(filter(None, (" ".join(text.split()), " ".join(image_description.split()))))


def cut_to_tokens(text: str, n_tokens: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the longest prefix of ``text`` that has at most ``n_tokens`` tokens.

    Always a prefix, characters whole: the audit relies on it.
    """
    # Of a very long text only the beginning is tokenised: no token is longer than 64 characters.
    text = text[: 64 * n_tokens]
    ends = [end for _, end in _offsets(text, tokenizer)]
    while len(ends) > n_tokens:  # more than once only where a cut changes how the rest is split
        text = text[: min(ends[n_tokens - 1], len(text) - 1)].rstrip()
        ends = [end for _, end in _offsets(text, tokenizer)]
    return text


def _offsets(text: str, tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, int]]:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(encoded["offset_mapping"])
