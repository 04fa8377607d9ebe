"""LlamaRec's prompt: titles of a history and of lettered candidates, as rows of token ids.

Every text is tokenized once. A prompt is then a sequence of pieces, cut out of one array.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from recbole_llm.llm.prompt_files import load_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HISTORY, CANDIDATES = "{history}", "{candidates}"
_ITEM_MARK = "\n-"  # before each title of the history
_LETTER_MARK = "\n{}:"  # before each candidate's title
_ANSWER = "\n"  # between the prompt and the letter that answers it


def load_template(name_or_path: str | Path) -> tuple[str, str, str]:
    """Read a prompt and return its texts before the history, before the candidates, and after.

    Args:
        name_or_path: stem of a ``.txt`` file of ``properties/prompts``, or a path to a text file.

    Raises:
        FileNotFoundError: the prompt does not exist; lists the shipped ones.
        ValueError: the prompt does not hold ``{history}``, and then ``{candidates}``, once each.
    """
    head, rest = load_prompt(name_or_path, HISTORY).split(HISTORY)
    parts = rest.split(CANDIDATES)
    if len(parts) != 2 or CANDIDATES in head:
        raise ValueError(
            f"prompt {name_or_path} must hold {CANDIDATES} exactly once, behind {HISTORY}."
        )
    return head, parts[0], parts[1]


def letter_ids(tail: str, tokenizer: PreTrainedTokenizerBase, n: int) -> Tensor:
    """Return the token ids (n,) of the letters A, B, ... as answers to a prompt.

    Args:
        tail: text of the prompt behind the candidates; the answer is on the line after it.
        tokenizer: tokenizer of the language model.
        n: number of letters, at most 26.

    Raises:
        ValueError: a letter is not one token there, or two letters are the same token.
    """
    before = _ids(tokenizer, tail + _ANSWER)
    letters = ascii_uppercase[:n]
    ids = [_ids(tokenizer, f"{tail}{_ANSWER}{letter}") for letter in letters]
    wrong = [
        letter
        for letter, found in zip(letters, ids, strict=True)
        if len(found) != len(before) + 1 or found[:-1] != before
    ]
    last = [found[-1] for found in ids]
    if wrong or len(set(last)) < n:
        which = f"{wrong[0]!r} is not" if wrong else "two of them are the same token, not each"
        raise ValueError(
            f"the answer is read from the tokens of the letters {letters[0]} to {letters[-1]}, and "
            f"{which} a token of its own behind the prompt {tail.strip()!r}."
        )
    return torch.tensor(last)


class TitlePrompt(nn.Module):
    """Prompts of a batch of users. C: candidates. S: item slots. T: tokens of the longest row.

    Args:
        template: texts around history and candidates, from ``load_template``.
        tokenizer: tokenizer of the language model. A prompt begins with its BOS token if the
            tokenizer puts one before a text.
        titles: titles of the items 1..I - 1.
        n_candidates: number C of candidates.
        max_title_tokens: number of a title's tokens that are read.
    """

    tokens: Tensor  # (n,) int64, the pieces one after another
    start: Tensor  # (P,) int64 in tokens
    length: Tensor  # (P,) int64

    def __init__(
        self,
        template: tuple[str, str, str],
        tokenizer: PreTrainedTokenizerBase,
        titles: Sequence[str],
        n_candidates: int,
        max_title_tokens: int,
    ) -> None:
        super().__init__()
        head, middle, tail = template
        texts = [middle, tail + _ANSWER, _ITEM_MARK]
        texts += [_LETTER_MARK.format(letter) for letter in ascii_uppercase[:n_candidates]]
        fixed = [_bos(tokenizer) + _ids(tokenizer, head)]
        fixed += [_ids(tokenizer, text) for text in texts]
        self.first_item = len(fixed)  # the piece of item 0, which is empty
        named = tokenizer([f" {title}" for title in titles], add_special_tokens=False)["input_ids"]
        pieces = [*fixed, [], *(list(ids)[:max_title_tokens] for ids in named)]
        length = torch.tensor([len(piece) for piece in pieces])
        tokens = torch.tensor([token for piece in pieces for token in piece])
        self.register_buffer("tokens", tokens, persistent=False)
        self.register_buffer("length", length, persistent=False)
        self.register_buffer("start", length.cumsum(0) - length, persistent=False)
        self.n_fixed = int(length[[0, 1, 2, *range(4, self.first_item)]].sum())

    def longest(self, n_history: int, max_title_tokens: int) -> int:
        """Return the largest number of tokens that a prompt can have.

        Args:
            n_history: number of history items.
            max_title_tokens: tokens of the longest title.
        """
        n_items = n_history + self.first_item - 4
        return self.n_fixed + n_history * int(self.length[3]) + n_items * max_title_tokens

    def forward(self, history: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Return token ids and mask of each row's prompt, left-padded, (B, T) int64 each.

        Args:
            history: (B, S) int64 item ids, oldest first; 0 where there is none.
            candidates: (B, C) int64 item ids; the first has the letter A.
        """
        n_rows, empty = len(history), self.first_item
        marks = torch.where(history > 0, 3, empty)
        letters = torch.arange(4, self.first_item, device=history.device).expand(n_rows, -1)
        head, middle, tail = history.new_tensor([0, 1, 2]).expand(n_rows, -1).split(1, dim=1)
        items, named = history + empty, candidates + empty
        piece = torch.cat([head, _paired(marks, items), middle, _paired(letters, named), tail], 1)
        length = self.length[piece].flatten()
        first = self.start[piece].flatten() - (length.cumsum(0) - length)
        index = torch.arange(int(length.sum()), device=history.device)
        index = index + torch.repeat_interleave(first, length)
        n_tokens = self.length[piece].sum(dim=1, keepdim=True)  # (B, 1)
        longest = int(n_tokens.max())
        is_real = torch.arange(longest, device=history.device) >= longest - n_tokens
        ids = history.new_zeros(n_rows, longest)
        ids[is_real] = self.tokens[index]  # row by row, as index has them
        return ids, is_real.long()


def _paired(marks: Tensor, items: Tensor) -> Tensor:
    """Return mark, item, mark, item, ... of each row, (B, 2 n)."""
    return torch.stack([marks, items], dim=2).flatten(1)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _bos(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the BOS token, in a list, of a tokenizer that puts one before a text."""
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else []
