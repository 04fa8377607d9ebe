"""A prompt: words around item embeddings, as left-padded input of a decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from recbole_llm.llm.prompt_files import PLACEHOLDER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokenize_prompt(template: str, tokenizer: PreTrainedTokenizerBase) -> tuple[Tensor, Tensor]:
    """Return the token ids before and after the items, (n_head,) and (n_tail,) int64.

    The head begins with the tokenizer's BOS token if the tokenizer puts one before a text; an EOS
    token at the end is never added, as the answer is read from the last token of the tail.

    Args:
        template: text that holds ``{items}`` once.
        tokenizer: tokenizer of the language model.

    Raises:
        ValueError: the template does not hold ``{items}`` exactly once.
    """
    if template.count(PLACEHOLDER) != 1:
        raise ValueError(f"the prompt must hold {PLACEHOLDER} exactly once: {template!r}")
    head, tail = template.split(PLACEHOLDER)
    head_ids = list(tokenizer(head, add_special_tokens=False)["input_ids"])
    with_special = list(tokenizer(head)["input_ids"])
    bos = tokenizer.bos_token_id
    if bos is not None and with_special[:1] == [bos] and head_ids[:1] != [bos]:
        head_ids = [bos, *head_ids]
    tail_ids = list(tokenizer(tail, add_special_tokens=False)["input_ids"])
    return torch.tensor(head_ids, dtype=torch.long), torch.tensor(tail_ids, dtype=torch.long)


def build_inputs(
    embed_tokens: nn.Module, head_ids: Tensor, tail_ids: Tensor, item_emb: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Join head, items and tail into left-padded rows: [padding, head, item_1 .. item_n, tail].

    Args:
        embed_tokens: token embedding of the trunk, ``model.get_input_embeddings()``.
        head_ids: (n_head,) int64 token ids.
        tail_ids: (n_tail,) int64 token ids.
        item_emb: (B, S, h), right-padded: a user's items, oldest first, at 0 .. length - 1.
        lengths: (B,) int64 in 0..S, the number of items.

    Returns:
        inputs_embeds: (B, T, h) in the token embedding's dtype, T = n_head + max(lengths) + n_tail;
            zero at padding.
        attention_mask: (B, T) int64, 1 at real tokens.

    Raises:
        ValueError: a length lies outside 0..S, or a row would be empty.
    """
    shortest, longest = (int(n) for n in torch.aminmax(lengths))
    n_head, n_tail = len(head_ids), len(tail_ids)
    if shortest < 0 or longest > item_emb.size(1):
        raise ValueError(
            f"lengths must lie in 0..{item_emb.size(1)}, the item slots, got {shortest}..{longest}."
        )
    if n_head + n_tail + shortest == 0:
        raise ValueError("a row has no items and the prompt has no text: nothing to attend to.")
    device, n_rows = item_emb.device, len(item_emb)
    words = embed_tokens(torch.cat([head_ids, tail_ids]).to(device))  # (n_head + n_tail, h)
    head, tail = words.expand(n_rows, -1, -1).split([n_head, n_tail], dim=1)
    items = item_emb[:, :longest].to(words.dtype)
    slots = torch.cat([head, items, tail], dim=1)  # (B, T, h), a gap behind shorter rows' items

    # Moving head and items right by the gap puts the gap in front; the tail stays where it is.
    column = torch.arange(slots.size(1), device=device).expand(n_rows, -1)  # (B, T)
    gap = (longest - lengths.to(device)).unsqueeze(1)  # (B, 1)
    moved = column < n_head + longest
    source = torch.where(moved, column - gap, column)  # (B, T), negative at padding
    is_real = source >= 0
    index = source.clamp(min=0).unsqueeze(-1).expand_as(slots)
    inputs_embeds = slots.gather(1, index).masked_fill(~is_real.unsqueeze(-1), 0.0)
    return inputs_embeds, is_real.long()
