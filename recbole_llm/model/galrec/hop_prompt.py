"""Prompts about a node of the user-item graph and its neighbours, by side and hop.

A template is text with slots ``{hop0}`` (the node itself), ``{hop1}`` (its neighbours), ``{hop2}``
(their neighbours) and ``{hop3}``. A filled prompt is a row of token ids in a vocabulary where users
and items follow the words (see ``reader``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recbole_llm.llm.prompt_files import find_prompt
from recbole_llm.yaml_io import read_yaml

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SIDES = ("user", "item")
MAX_HOPS = 3
_SLOT = re.compile(r"\{([^{}]*)\}")

#: A template in pieces: token ids of a text, or the hop whose nodes are filled in.
Pieces = list[list[int] | int]


def load_hop_prompts(
    name_or_path: str | Path, tokenizer: PreTrainedTokenizerBase, add_eos: bool
) -> dict[tuple[str, int], Pieces]:
    """Read templates for both sides and every hop, and tokenize their texts.

    Args:
        name_or_path: stem of a YAML file of ``properties/prompts``, or a path to a YAML file, with
            the keys ``user_0`` to ``user_3`` and ``item_0`` to ``item_3``.
        tokenizer: tokenizer of the language model. A prompt begins with its BOS token if it puts
            one before a text.
        add_eos: whether a prompt ends with the tokenizer's EOS token if it puts one behind a text,
            as T5's does.

    Returns:
        Template in pieces by side and hop.

    Raises:
        FileNotFoundError: the file does not exist; lists the shipped ones.
        ValueError: a template is missing, unknown, or does not name each hop up to its own once.
    """
    path = find_prompt(name_or_path, ".yaml")
    templates = read_yaml(path)
    names = {f"{side}_{hop}": (side, hop) for side in SIDES for hop in range(MAX_HOPS + 1)}
    wrong_keys = sorted(names.keys() ^ templates.keys())
    if wrong_keys:
        first = wrong_keys[0]
        raise ValueError(
            f"prompts {path}: {first!r} is {'missing' if first in names else 'unknown'}. "
            f"Expected the keys {', '.join(names)}."
        )
    return {
        (side, hop): _pieces(f"{path}, {name}", str(templates[name]), hop, tokenizer, add_eos)
        for name, (side, hop) in names.items()
    }


def _pieces(
    where: str, template: str, hop: int, tokenizer: PreTrainedTokenizerBase, add_eos: bool
) -> Pieces:
    *parts, last = _SLOT.split(template)  # text, slot, text, slot, ..., text
    slots, expected = parts[1::2], [f"hop{k}" for k in range(hop + 1)]
    if sorted(slots) != expected:
        raise ValueError(
            f"prompts {where}: must hold each of {', '.join(f'{{{slot}}}' for slot in expected)} "
            f"once, got {template!r}."
        )
    pieces: Pieces = []
    for text, slot in zip([*parts[::2], last], [*slots, None], strict=True):
        pieces.append(list(tokenizer(text, add_special_tokens=False)["input_ids"]))
        if slot is not None:
            pieces.append(int(slot.removeprefix("hop")))
    framed = list(tokenizer("a")["input_ids"])
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if bos is not None and framed[:1] == [bos]:
        pieces.insert(0, [bos])
    if add_eos and eos is not None and framed[-1:] == [eos]:
        pieces.append([eos])
    return [piece for piece in pieces if piece != []]


def assemble(pieces: Pieces, hops: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Fill the slots of a template for a batch of nodes.

    Args:
        pieces: template from ``load_hop_prompts``.
        hops: token ids (B, n) int64 of the nodes at each hop, -1 fills a row.

    Returns:
        ids: (B, T) int64, left-padded, T as long as the longest row needs; 0 at padding.
        mask: (B, T) int64, 1 at real tokens.
    """
    n_rows, like = len(hops[0]), hops[0]
    columns = [
        hops[piece] if isinstance(piece, int) else like.new_tensor(piece).expand(n_rows, -1)
        for piece in pieces
    ]
    ids = torch.cat(columns, dim=1)  # (B, every slot), with gaps
    is_real = ids >= 0
    longest = int(is_real.sum(dim=1).max())
    order = is_real.byte().argsort(dim=1, stable=True)[:, ids.size(1) - longest :]
    ids, is_real = ids.gather(1, order), is_real.gather(1, order)
    return ids.masked_fill(~is_real, 0), is_real.long()
