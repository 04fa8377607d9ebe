"""HeLLM's graph prefix for every item of a window: pooled from the items up to that one.

The paper pools the whole input once, so its first items see a prefix that is made of later ones. In
a window that would show each item the next one. Here item j and the answer after it attend to P
entries that are pooled from the items up to j, and to no others, in training and in ranking alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from recbole_llm.llm.decoder import decoder_layers
from recbole_llm.model.hellm.prefix import NORM_EPS, by_heads, layer_dtype, projecting

if TYPE_CHECKING:
    from recbole_llm.llm.cache import LayerStates
    from recbole_llm.model.hellm.prefix import GraphPrefix


def running_pool(prefix: GraphPrefix, graph_emb: Tensor, mask: Tensor) -> Tensor:
    """Return W^T H_j^T H_j W of the items up to each one, flat, (B, S, d'^2) (eq. 8 and 9).

    Args:
        prefix: weights of the graph prefix.
        graph_emb: (B, S, d), graph embeddings of the items, oldest first.
        mask: (B, S) bool, True at real items.
    """
    items = graph_emb.masked_fill(~mask.unsqueeze(-1), 0.0) @ prefix.pool  # (B, S, d')
    outer = items.unsqueeze(-1) * items.unsqueeze(-2)  # (B, S, d', d')
    return outer.cumsum(dim=1).flatten(2)


def causal_states(
    model: nn.Module, prefix: GraphPrefix, graph_emb: Tensor, mask: Tensor
) -> LayerStates:
    """Return the keys and values of each layer, (B, kv heads, S * P, head width) (eq. 10 and 11).

    Args:
        model: trunk, plain or with adapters.
        prefix: weights of the graph prefix.
        graph_emb: (B, S, d), graph embeddings of the items, oldest first.
        mask: (B, S) bool, True at real items.
    """
    hidden = prefix.pool_norm(running_pool(prefix, graph_emb, mask))  # (B, S, d'^2)
    kinds = {
        "k": (prefix.key_mlp(hidden), prefix.key_bias, prefix.key_scale),
        "v": (prefix.value_mlp(hidden), prefix.value_bias, prefix.value_scale),
    }
    factors = {kind: _norm_factors(shared, bias) for kind, (shared, bias, _) in kinds.items()}
    states = []
    for number, layer in enumerate(decoder_layers(model)):
        keys, values = (
            _projected(layer, kind, shared, bias[number], scale[number], factors[kind][number])
            for kind, (shared, bias, scale) in kinds.items()
        )
        states.append((keys, values))
    return states


def _norm_factors(shared: Tensor, bias: Tensor) -> Tensor:
    """Return 1 / RMS of ``shared + bias`` for each layer, row, item and entry, (L, B, S, P).

    Args:
        shared: (B, S, h), what an MLP makes of the items up to each one.
        bias: (L, P, h), the learnable parameters of each layer and entry.
    """
    cross = torch.einsum("bsh,lph->lbsp", shared, bias)
    total = shared.square().sum(-1)[..., None] + 2 * cross + bias.square().sum(-1)[:, None, None]
    # clamp: a sum of squares that is nearly zero may come out below it
    return (total.clamp(min=0) / shared.size(-1) + NORM_EPS).rsqrt()


def _projected(
    layer: nn.Module, kind: str, shared: Tensor, bias: Tensor, scale: Tensor, factor: Tensor
) -> Tensor:
    """Return one layer's keys or values, (B, kv heads, S * P, head width).

    An entry is norm(shared + bias) * scale, and the norm is one factor. So A(entry) = factor *
    (A(shared * scale) + A(bias * scale)) for the projection's matrix A: S + P rows are projected,
    and not S * P.

    Args:
        layer: decoder layer.
        kind: "k" or "v".
        shared: (B, S, h).
        bias: (P, h).
        scale: (1, 1, h).
        factor: (B, S, P), from ``_norm_factors``.
    """
    proj = getattr(projecting(layer, kind), f"{kind}_proj")
    dtype = layer_dtype(layer, shared)
    offset = proj(torch.zeros_like(bias[:1], dtype=dtype)).to(shared.dtype)  # (1, width): its bias
    of_item = proj((shared * scale).to(dtype)).to(shared.dtype) - offset  # (B, S, width)
    of_entry = proj((bias * scale[0]).to(dtype)).to(shared.dtype) - offset  # (P, width)
    states = (of_item.unsqueeze(2) + of_entry) * factor.unsqueeze(-1) + offset  # (B, S, P, width)
    return by_heads(layer, kind, states.flatten(1, 2).to(dtype))
