"""Key/value caches that are read only, and the recording of one.

transformers' own caches grow with every forward pass. A cache that grows cannot serve a second
pass, and a layer that gradient checkpointing runs twice would see its own tokens twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache as memoize
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from recbole_llm.llm.decoder import cache_arguments, decoder_layers

if TYPE_CHECKING:
    from transformers import DynamicCache

#: Keys and values of each layer, (B, kv heads, T, head width) each.
LayerStates = Sequence[tuple[Tensor, Tensor]]


def read_only_cache(states: LayerStates) -> DynamicCache:
    """Return a cache whose entries a forward pass attends to, and to which it adds nothing.

    It can serve any number of passes over the same rows.

    Args:
        states: keys and values of each layer.
    """
    return _cache_of([_layer_classes()[0](keys, values) for keys, values in states])


def record_states(model: nn.Module, inputs_embeds: Tensor) -> tuple[LayerStates, Tensor]:
    """Run the trunk over some first tokens, and keep what later tokens attend to.

    Args:
        model: trunk, plain or with adapters.
        inputs_embeds: (1, T, h) embeddings, T >= 1, the same for every row that comes later.

    Returns:
        Keys and values of each layer, (1, kv heads, T, head width) each, and the hidden state
        (1, h) of the last token after the final norm. Gradients flow through all of them.
    """
    cache = _cache_of([_layer_classes()[1]() for _ in decoder_layers(model)])
    output = model(inputs_embeds=inputs_embeds, **cache_arguments(model, cache))
    layers: list[Any] = cache.layers
    return [(layer.keys, layer.values) for layer in layers], output.last_hidden_state[:, -1]


def join_states(*parts: LayerStates, n_rows: int) -> LayerStates:
    """Join the entries of several parts along the positions, layer by layer.

    Args:
        parts: keys and values of each layer, of ``n_rows`` rows or of one row, which is repeated.
        n_rows: rows of the result.
    """

    def join(kind: int, number: int) -> Tensor:
        return torch.cat([part[number][kind].expand(n_rows, -1, -1, -1) for part in parts], dim=2)

    return [(join(0, number), join(1, number)) for number in range(len(parts[0]))]


def _cache_of(layers: list[Any]) -> DynamicCache:
    from transformers import DynamicCache

    cache = DynamicCache()
    cache.layer_class_to_replicate = None  # all layers are given here; none is added later
    cache.layers = layers
    return cache


@memoize
def _layer_classes() -> tuple[type, type]:
    # A function, so that transformers is imported when a cache is used and not before.
    from transformers.cache_utils import DynamicLayer

    class ReadOnlyLayer(DynamicLayer):
        """A cache layer that shows its entries in front of the new ones and keeps none of those."""

        def __init__(self, keys: Tensor, values: Tensor) -> None:
            super().__init__()
            super().update(keys, values)

        def update(
            self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
        ) -> tuple[Tensor, Tensor]:
            """Return own and new entries joined along the positions."""
            assert self.keys is not None and self.values is not None  # set on construction
            keys = torch.cat([self.keys, key_states], dim=-2)
            return keys, torch.cat([self.values, value_states], dim=-2)

    class RecordingLayer(DynamicLayer):
        """A cache layer that keeps the entries of one pass, and the same if it runs twice."""

        def update(
            self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
        ) -> tuple[Tensor, Tensor]:
            """Keep the entries and return them."""
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                self.keys, self.values = key_states, value_states
            return key_states, value_states

    return ReadOnlyLayer, RecordingLayer
