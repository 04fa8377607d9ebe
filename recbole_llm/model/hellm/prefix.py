"""The graph prefix of HeLLM: a user's graph embeddings as key/value entries of every layer.

Reference: X. Guo et al., "HeLLM: Multi-Modal Hypergraph Enhanced LLM Learning for Recommendation",
arXiv:2504.10541, section III-E (equation numbers below). Where the paper is silent the authors'
code decides.

The prefix enters through the key/value cache, so it works with any decoder whose layers have
``k_proj`` and ``v_proj``, with any attention implementation and grouped-query attention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.llm.cache import read_only_cache
from recbole_llm.llm.decoder import SUPPORTED, decoder_layers

if TYPE_CHECKING:
    from transformers import DynamicCache

NORM_EPS = 1e-6  # of the last RMSNorm, which each entry goes through


class GraphPrefix(nn.Module):
    """Pool the graph embeddings of a user's items into prefix hidden states (eq. 8 to 10).

    B: batch. S: item slots. L: decoder layers. P: prefix positions. h: the decoder's hidden size.
    d, d': graph and pooling width, d' <= d.

    The paper pools with a trainable W of d columns to d' < d; the authors' code has no W. With
    d' = d and W the identity this is the code's pooling. RMSNorm before the MLPs is the paper's;
    RMSNorm after adding the learnable parameters is the code's.

    Args:
        n_layers: number L of decoder layers.
        hidden_size: width h of the decoder's states.
        graph_dim: width d of the graph embeddings.
        pool_dim: pooling width d', 1 <= d' <= d.
        n_prefix: number P of prefix positions, >= 1. Authors' code: 10.
        mlp_hidden: inner width of the key and the value MLP.
        dropout: rate inside both MLPs, in [0, 1). Authors' code: 0.3.
        input_scale: (L, h) first weights of the last RMSNorm, from ``input_scales``: a prefix then
            enters each layer as large as a word does. None stands for ones.

    Raises:
        ValueError: ``pool_dim`` or ``n_prefix`` is out of range.
    """

    def __init__(
        self,
        n_layers: int,
        hidden_size: int,
        graph_dim: int,
        pool_dim: int,
        n_prefix: int = 10,
        mlp_hidden: int = 256,
        dropout: float = 0.3,
        input_scale: Tensor | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= pool_dim <= graph_dim:
            raise ValueError(
                f"pool_dim must be in 1..{graph_dim}, the graph embeddings' width, got {pool_dim}."
            )
        if n_prefix < 1:
            raise ValueError(f"n_prefix must be an integer >= 1, got {n_prefix}.")
        self.pool = nn.Parameter(torch.empty(graph_dim, pool_dim))  # W of eq. 9
        nn.init.orthogonal_(self.pool)
        # eps: H^T H of small embeddings can be far below the usual 1e-6, and must not be damped
        self.pool_norm = nn.RMSNorm(pool_dim**2, eps=1e-12)
        self.key_mlp = _mlp(pool_dim**2, mlp_hidden, hidden_size, dropout)
        self.value_mlp = _mlp(pool_dim**2, mlp_hidden, hidden_size, dropout)
        # std 0.1: the MLPs give about 0.2 at first, so neither part drowns the other, and the
        # positions differ from the start (equal ones would get equal gradients)
        self.key_bias = nn.Parameter(torch.empty(n_layers, n_prefix, hidden_size).normal_(std=0.1))
        self.value_bias = nn.Parameter(
            torch.empty(n_layers, n_prefix, hidden_size).normal_(std=0.1)
        )
        if input_scale is None:
            input_scale = torch.ones(n_layers, hidden_size)
        self.key_scale = nn.Parameter(input_scale[:, None, None].clone())  # (L, 1, 1, h)
        self.value_scale = nn.Parameter(input_scale[:, None, None].clone())

    def pooled(self, graph_emb: Tensor, mask: Tensor) -> Tensor:
        """Return W^T H^T H W of each user's real items, flat, (B, d'^2) (eq. 8 and 9).

        Args:
            graph_emb: (B, S, d), the graph embeddings of the items in the input.
            mask: (B, S) bool, True at real items.
        """
        # masked_fill, not a product: padding slots may hold anything, NaN included
        items = graph_emb.masked_fill(~mask.unsqueeze(-1), 0.0) @ self.pool  # (B, S, d')
        return (items.transpose(1, 2) @ items).flatten(1)  # (B, d', d') -> (B, d'^2)

    def forward(self, graph_emb: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hidden states that each layer's k_proj and v_proj project (eq. 10).

        Args:
            graph_emb: (B, S, d), the graph embeddings of the items in the input; order and
                padding do not matter.
            mask: (B, S) bool, True at real items.

        Returns:
            keys_in, values_in: (L, B, P, h) each.
        """
        hidden = self.pool_norm(self.pooled(graph_emb, mask))  # (B, d'^2)
        key = self.key_mlp(hidden)[None, :, None]  # (1, B, 1, h)
        value = self.value_mlp(hidden)[None, :, None]
        width = (key.size(-1),)
        keys_in = F.rms_norm(key + self.key_bias[:, None], width, eps=NORM_EPS)  # (L, B, P, h)
        values_in = F.rms_norm(value + self.value_bias[:, None], width, eps=NORM_EPS)
        return keys_in * self.key_scale, values_in * self.value_scale


def _mlp(n_in: int, n_hidden: int, n_out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_in, n_hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(n_hidden, n_out)
    )


@torch.no_grad()
def input_scales(model: nn.Module) -> Tensor:
    """Return the weights of each layer's own input norm, (L, h) float32; ones if it has no norm.

    They are small in the first layers (SmolLM2: root mean square 0.04, then 0.17): prefix states of
    unit size gave values 25 and 7 times as large as a word's there, and drowned the words.
    """
    scales = []
    for layer in decoder_layers(model):
        norm = getattr(layer, "input_layernorm", None)
        width = projecting(layer, "k").k_proj.in_features
        probe = torch.ones(width, device=next(layer.parameters()).device)
        # The norm is called, as its weight is not its factor: Gemma's multiplies by 1 + weight.
        scales.append(probe if norm is None else norm(probe[None].to(norm.weight.dtype))[0].float())
    return torch.stack(scales)


def prefix_cache(model: nn.Module, keys_in: Tensor, values_in: Tensor) -> DynamicCache:
    """Project the prefix with each layer's own k_proj and v_proj into a key/value cache (eq. 11).

    Biases of the projections and a key norm (Qwen3) apply as to any token; rotary positions do
    not: the prefix has no position in the sequence. The cache is read-only: a forward pass attends
    to it and does not add its own tokens, so it can serve any number of passes over the same users,
    and a checkpointed layer may run twice.

    Args:
        model: trunk, plain or with adapters.
        keys_in: (L, B, P, h) hidden states, from ``GraphPrefix``.
        values_in: (L, B, P, h) hidden states, likewise.

    Raises:
        ValueError: the number of layers differs, or a layer has no separate k_proj and v_proj.
    """
    layers = decoder_layers(model)
    if len(layers) != len(keys_in) or keys_in.shape != values_in.shape:
        raise ValueError(
            f"the model has {len(layers)} decoder layers, but the prefix was made for "
            f"{len(keys_in)} (keys {tuple(keys_in.shape)}, values {tuple(values_in.shape)})."
        )
    return read_only_cache(
        [
            (_project(layer, "k", key_in), _project(layer, "v", value_in))
            for layer, key_in, value_in in zip(layers, keys_in, values_in, strict=True)
        ]
    )


def _project(layer: nn.Module, kind: str, hidden: Tensor) -> Tensor:
    """Return one layer's prefix keys (kind "k") or values ("v"), (B, kv heads, P, head width)."""
    proj = getattr(projecting(layer, kind), f"{kind}_proj")
    return by_heads(layer, kind, proj(hidden.to(layer_dtype(layer, hidden))))


def layer_dtype(layer: nn.Module, hidden: Tensor) -> torch.dtype:
    """Return the type that a layer computes in: its norms', as its weights may be quantised."""
    return next((p.dtype for p in layer.parameters() if p.ndim == 1), hidden.dtype)


def by_heads(layer: nn.Module, kind: str, states: Tensor) -> Tensor:
    """Norm and split projected states (B, P, kv heads * head width), as the layer does its own."""
    attention = projecting(layer, kind)
    norm, head_dim = getattr(attention, f"{kind}_norm", None), attention.head_dim
    width = _norm_width(attention, norm, kind)
    if norm is not None and width != head_dim:  # over all heads at once, as in OLMo 2
        states = norm(states)
    states = states.unflatten(-1, (-1, head_dim))  # (B, P, kv heads, head width)
    if norm is not None and width == head_dim:  # head by head, as in Qwen3
        states = norm(states)
    return states.transpose(1, 2)


def projecting(layer: nn.Module, kind: str) -> Any:
    """Return a layer's attention.

    Raises:
        ValueError: it has no linear layer that makes keys ("k") or values ("v") alone.
    """
    attention = getattr(layer, "self_attn", None)
    proj = getattr(attention, f"{kind}_proj", None)
    if proj is None or getattr(attention, "head_dim", None) is None:
        raise ValueError(
            f"{type(layer).__name__} has no self_attn.{kind}_proj, so no prefix can be projected "
            f"(fused query-key-value layers are not supported). Supported: {SUPPORTED}."
        )
    return attention


def check_prefix(model: nn.Module, n_prefix: int) -> None:
    """Project an empty prefix, to see whether every layer can.

    Args:
        model: trunk, plain or with adapters; it may be on the meta device.
        n_prefix: number of prefix positions.

    Raises:
        ValueError: a layer has no separate k_proj and v_proj, or norms them in an unknown way.
    """
    scales = input_scales(model)  # (L, h)
    states = scales.new_zeros(len(scales), 1, n_prefix, scales.size(1))
    prefix_cache(model, states, states)


def _norm_width(attention: Any, norm: nn.Module | None, kind: str) -> int | None:
    """Return the last width of the norm's weight; ValueError if the norm's form is unknown."""
    if norm is None and getattr(attention, f"{kind}_layernorm", None) is None:
        return None
    weight = getattr(norm, "weight", None)
    if weight is None:
        raise ValueError(
            f"{type(attention).__name__} normalises its {kind} states in a way that this prefix "
            f"does not know. Supported: {SUPPORTED}."
        )
    return weight.shape[-1]
