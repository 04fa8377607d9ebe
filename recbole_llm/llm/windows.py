"""Windows: one forward pass reads a row's items once and answers after any number of them.

The prompt is head, items, tail. The head is the same for every row, so it is read once a batch and
not once a row. Without a tail the state of item j is the answer after j items. With a tail, each
answer has a branch of its own, a copy of the tail that stands where the next item would:

    head  item 1  item 2  item 3
                     |       └── tail of the answer after 3 items
                     └── tail of the answer after 2 items

An item attends to the head, to the items before it and to itself; a branch to the head, to the
items that it stands behind, and to itself. So each answer is what a row of its own, cut behind
these items, would give.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from recbole_llm.llm.cache import LayerStates, join_states, read_only_cache, record_states
from recbole_llm.llm.decoder import cache_arguments, decoder_layers

if TYPE_CHECKING:
    from transformers import DynamicCache


def read_windows(
    model: nn.Module,
    head: Tensor,
    items: Tensor,
    tail: Tensor,
    ends: Tensor,
    groups: LayerStates | None = None,
) -> Tensor:
    """Return the hidden state (B, E, h) after the first ``ends`` items of each row.

    B: rows. S: item slots. E: answers of a row. h: the trunk's hidden size. In training the
    adapters' dropout is drawn once for the head and once for each item, whichever answers see them.

    Args:
        model: trunk, plain or with adapters.
        head: (n_head, h) embeddings of the words before the items, in the trunk's dtype.
        items: (B, S, h) embeddings of the items, oldest first; what is in slots behind a row's
            last item changes no answer that ends before it.
        tail: (n_tail, h) embeddings of the words behind the items.
        ends: (B, E) or, if they are the same for all rows, (1, E) int64 in 0..S.
        groups: keys and values of each layer, (B, kv heads, S * P, head width): P entries for
            each item j, which item j and the branches after j items attend to, and no others. None
            stands for no such entries.

    Raises:
        ValueError: an answer after no items is asked for, and the prompt has no words.
    """
    n_rows, n_items, width = items.shape
    n_head, n_tail = len(head), len(tail)
    if not n_head + n_tail and not bool(ends.min()):
        raise ValueError("a row has no items and the prompt has no text: nothing to attend to.")
    parts, first = [] if groups is None else [groups], items.new_zeros(1, width)
    if n_head:
        states, first = record_states(model, head.unsqueeze(0))
        parts.append(states)
    branches = tail.expand(n_rows, ends.size(1), -1, -1).flatten(1, 2)  # (B, E * n_tail, h)
    inputs = torch.cat([items, branches], dim=1)  # (B, Q, h)
    if parts or n_tail:
        reach, branch = _layout(n_items, n_tail, ends)
        n_group = 0 if groups is None else groups[0][0].size(2) // n_items
        seen = _visible(reach, branch, n_items, n_head, n_group)  # (B or 1, Q, K) bool
        position = n_head + reach - 1  # a branch stands where the next item would
        position[:, n_items:] += 1 + torch.arange(n_tail, device=items.device).repeat(ends.size(1))
        cache = read_only_cache(join_states(*parts, n_rows=n_rows)) if parts else None
        hidden = _attend(model, inputs, seen, position, cache)
    else:
        hidden = model(inputs_embeds=inputs, use_cache=False).last_hidden_state
    if n_tail:
        return hidden[:, n_items:].unflatten(1, (-1, n_tail))[:, :, -1]
    hidden = torch.cat([first.expand(n_rows, 1, -1), hidden], dim=1)  # (B, 1 + S, h)
    return hidden.gather(1, ends.expand(n_rows, -1).unsqueeze(-1).expand(-1, -1, width))


def check_windows(model: nn.Module) -> None:
    """Check that every layer attends, so that a branch of the prompt can be hidden from others.

    Args:
        model: trunk, plain or with adapters; it may be on the meta device.

    Raises:
        ValueError: a layer carries a state from token to token instead.
    """
    for layer in decoder_layers(model):
        if getattr(layer, "self_attn", None) is None:
            raise ValueError(
                f"{type(layer).__name__} has no self_attn, and training=windows needs attention in "
                f"every layer. Set training to prefixes."
            )


def _attend(
    model: nn.Module, inputs: Tensor, seen: Tensor, position: Tensor, cache: DynamicCache | None
) -> Tensor:
    """Run the trunk, each query attending to the keys that it may see, (B or 1, Q, K) bool."""
    mask = torch.zeros(seen.shape, dtype=inputs.dtype, device=inputs.device)
    mask.masked_fill_(~seen, torch.finfo(inputs.dtype).min)  # added to the logits by every kernel
    output = model(
        inputs_embeds=inputs,
        attention_mask=mask.unsqueeze(1),
        position_ids=position,
        **cache_arguments(model, cache),
    )
    return output.last_hidden_state


def _layout(n_items: int, n_tail: int, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Return the items that each query sees (B or 1, Q), and its branch (Q,), -1 for an item."""
    number = torch.arange(n_items, device=ends.device)
    reach = torch.cat(
        [(number + 1).expand(len(ends), -1), ends.repeat_interleave(n_tail, dim=1)], dim=1
    )
    branch = torch.arange(ends.size(1), device=ends.device).repeat_interleave(n_tail)
    return reach, torch.cat([torch.full_like(number, -1), branch])


def _visible(reach: Tensor, branch: Tensor, n_items: int, n_head: int, n_group: int) -> Tensor:
    """Return which keys each query attends to, (B or 1, Q, K) bool.

    Keys come in the order groups (S * P), head, items (S), branches (E * n_tail).
    """
    number = torch.arange(n_items, device=reach.device)
    reach = reach.unsqueeze(-1)  # (B or 1, Q, 1)
    group = number.repeat_interleave(n_group) == reach - 1
    order = torch.arange(len(branch), device=reach.device)
    own = (branch.unsqueeze(1) == branch) & (order <= order.unsqueeze(1)) & (branch >= 0)  # (Q, Q)
    own = own[:, n_items:].expand(len(reach), -1, -1)
    head = torch.ones(*reach.shape[:2], n_head, dtype=torch.bool, device=reach.device)
    return torch.cat([group, head, number < reach, own], dim=-1)
