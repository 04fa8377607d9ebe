"""Decoders of transformers: their layers, and the last hidden state of a padded batch."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import DynamicCache

SUPPORTED = "Llama, Mistral, Qwen2, Qwen3, Gemma, SmolLM and others with separate k_proj and v_proj"


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """Return the decoder's layers, through PEFT, DataParallel and language-model-head wrappers.

    Raises:
        ValueError: the model has no list of decoder layers under the name ``layers``.
    """
    trunk: Any = model
    for _ in range(5):
        layers = getattr(trunk, "layers", None)
        if isinstance(layers, nn.ModuleList):
            return layers
        names = ("_orig_mod", "module", "base_model", "model")
        inner = (getattr(trunk, name, None) for name in names)
        trunk = next((m for m in inner if isinstance(m, nn.Module) and m is not trunk), None)
    raise ValueError(
        f"{type(model).__name__} has no list of decoder layers under the name 'layers'. "
        f"Supported: {SUPPORTED}."
    )


def last_hidden(
    model: nn.Module,
    inputs_embeds: Tensor,
    attention_mask: Tensor,
    cache: DynamicCache | None = None,
) -> Tensor:
    """Run the trunk and return the last token's hidden state after the final norm, (B, h).

    The first real token has position 0, with or without a prefix and however long the padding, so
    that a padded batch gives what each row gives alone.

    Args:
        model: trunk, plain or with adapters.
        inputs_embeds: (B, T, h) embeddings in the trunk's dtype, left-padded.
        attention_mask: (B, T) integers, 1 at real tokens.
        cache: key/value cache of a prefix of P positions; None runs without one.

    Raises:
        ValueError: a row is not left-padded, the cache is for another batch size, the input
            exceeds the sliding window, or transformers' own gradient checkpointing is on.
    """
    if not bool(attention_mask[:, -1].all()):
        raise ValueError("inputs must be left-padded: the last token of every row must be real.")
    position_ids = (attention_mask.long().cumsum(1) - 1).clamp(min=0)  # (B, T)
    if cache is not None:
        _check_cache(model, inputs_embeds, cache)
        prefix_mask = attention_mask.new_ones(len(attention_mask), cache.get_seq_length())
        attention_mask = torch.cat([prefix_mask, attention_mask], dim=1)  # (B, P + T)
    output = model(
        inputs_embeds=inputs_embeds,
        attention_mask=attention_mask,
        position_ids=position_ids,
        **cache_arguments(model, cache),
    )
    return output.last_hidden_state[:, -1]


def cache_arguments(model: Any, cache: DynamicCache | None) -> dict[str, Any]:
    """Return the arguments that give a trunk a cache; None stands for a pass without one.

    Releases of transformers call it ``cache`` or ``past_key_values``.

    Args:
        model: trunk, plain or with adapters.
        cache: key/value cache.
    """
    if cache is None:
        return {"use_cache": False}
    trunk = model.get_base_model() if hasattr(model, "get_base_model") else model
    is_new = "cache" in inspect.signature(trunk.forward).parameters
    return {"cache" if is_new else "past_key_values": cache, "use_cache": True}


def _check_cache(model: nn.Module, inputs_embeds: Tensor, cache: DynamicCache) -> None:
    n_rows, n_tokens = inputs_embeds.shape[:2]
    cached: Tensor | None = getattr(cache.layers[0], "keys", None) if cache.layers else None
    if cached is None or len(cached) != n_rows:
        n_cached = 0 if cached is None else len(cached)
        raise ValueError(f"the prefix is for {n_cached} rows, the inputs have {n_rows}.")
    layers = decoder_layers(model)
    if model.training and any(getattr(layer, "gradient_checkpointing", False) for layer in layers):
        raise ValueError(
            "transformers' gradient checkpointing drops the prefix. Turn it off "
            "(model.gradient_checkpointing_disable()) and use "
            "load_backbone(..., gradient_checkpointing=True) instead."
        )
    check_window(model, cache.get_seq_length() + n_tokens)


def sliding_window(model: nn.Module) -> int | None:
    """Return how many positions the layers with the shortest sight attend to; None for all."""
    config: Any = model.config
    layer_types = getattr(config, "layer_types", None)
    slides = layer_types is None or "sliding_attention" in layer_types
    return getattr(config, "sliding_window", None) if slides else None


def check_window(model: nn.Module, length: int) -> None:
    """Check that a layer sees the whole prefix from the last of so many positions.

    Raises:
        ValueError: the model's sliding window is shorter.
    """
    window = sliding_window(model)
    if window is not None and length > window:
        raise ValueError(
            f"prefix and input have {length} positions, but this model attends to the last "
            f"{window} only and would lose sight of the prefix. Shorten the history "
            f"(MAX_ITEM_LIST_LENGTH) or the prompt."
        )
