"""Load a language model as a frozen trunk; its language-model head is left out unless asked for.

Decoders are accepted, and encoder-decoders of the T5 family by models that ask for them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recbole_llm.encoders.hub import quiet
from recbole_llm.llm.decoder import decoder_layers
from recbole_llm.llm.model_files import find_model
from recbole_llm.registry import suggest

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
T5_FAMILY = ("t5", "mt5", "umt5")  # Flan-T5 is a t5


class BackboneShape(NamedTuple):
    """Widths of a decoder that the graph prefix and the score head are sized by."""

    hidden_size: int
    n_layers: int
    n_kv_heads: int
    head_dim: int


class Backbone(NamedTuple):
    """A frozen trunk, its tokenizer and how to find both again.

    ``source`` holds JSON values only: ``path`` as the user wrote it, ``kind`` (gguf, folder or
    hub), ``revision``, ``num_layers`` kept, ``dtype``, ``load_in_4bit`` and ``hash``: the file's
    SHA-256 (gguf), a fingerprint of the files (folder) or the commit (hub). ``head``: (V, h)
    weights by which a state gives the logits of the V tokens; None unless asked for.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: dict[str, Any]
    shape: BackboneShape
    head: Tensor | None = None


def load_backbone(
    llm_path: str | Path,
    *,
    revision: str | None = None,
    num_layers: int | None = None,
    dtype: str = "float32",
    load_in_4bit: bool = False,
    gradient_checkpointing: bool = False,
    encoder_decoder: bool = False,
    with_head: bool = False,
    cache_dir: str | Path = "saved/cache",
) -> Backbone:
    """Load a trunk with every weight frozen, in evaluation mode.

    Args:
        llm_path: alias ``smollm2-135m``, a ``.gguf`` file, a folder or a Hugging Face id.
        revision: branch, tag or commit of a Hugging Face id.
        num_layers: number of first layers to keep (of encoder and decoder each); None keeps all.
        dtype: type of the weights: float32, bfloat16, float16, or auto (as stored).
        load_in_4bit: whether weights are NF4 by bitsandbytes, on the current CUDA device.
        gradient_checkpointing: whether each layer's activations are recomputed in the backward
            pass: less memory, about a third more time, the same numbers. Works with a graph prefix,
            which transformers' own ``gradient_checkpointing_enable`` silently drops.
        encoder_decoder: whether encoder-decoders of the T5 family are accepted as well as decoders.
        with_head: whether a decoder's language-model head is loaded as well.
        cache_dir: folder in which a converted GGUF file is kept.

    Raises:
        ValueError: an option is out of range, the model is not a decoder, or the GGUF file is
            damaged.
        OSError: nothing is found at ``llm_path``, or its files cannot be read.
        ImportError: the package of an alias, or bitsandbytes, is not installed.
    """
    if dtype not in (*DTYPES, "auto"):
        hint = suggest(dtype.replace("fp", "float"), [*DTYPES, "auto"])
        raise ValueError(f"dtype must be float32, bfloat16, float16 or auto, got {dtype!r}.{hint}")
    if load_in_4bit:
        _check_4bit()
    path = str(llm_path)
    kind, digest, folder = find_model(path, revision, cache_dir)
    options: dict[str, Any] = {"dtype": DTYPES.get(dtype, "auto")}
    if load_in_4bit:
        options |= _options_4bit(options["dtype"])
    try:
        model, head, tokenizer = _read(
            folder, revision, num_layers, options, path, encoder_decoder, with_head
        )
    except (ValueError, ImportError):
        raise
    except Exception as error:  # safetensors, JSON, Rust tokenizer and hub errors share no base
        raise OSError(f"llm_path={path!r} cannot be loaded: {error}") from error

    model.requires_grad_(False)
    model.eval()
    shape = backbone_shape(model.config, path)
    if gradient_checkpointing and model.config.is_encoder_decoder:  # takes no prefix to be dropped
        model.gradient_checkpointing_enable({"use_reentrant": False})
    elif gradient_checkpointing:
        checkpoint_layers(model)
    source = {
        "path": path,
        "kind": kind,
        "revision": revision,
        "num_layers": shape.n_layers,
        "dtype": str(model.dtype).removeprefix("torch."),
        "load_in_4bit": load_in_4bit,
        "hash": digest,
    }
    return Backbone(model, tokenizer, source, shape, head)


def backbone_shape(config: PreTrainedConfig, path: str = "the model") -> BackboneShape:
    """Read a decoder's widths from its config.

    Args:
        config: config of transformers.
        path: ``llm_path`` of the model, for the error.

    Raises:
        ValueError: the config does not give a width (names those that are missing).
    """
    n_heads = getattr(config, "num_attention_heads", None)
    hidden_size = getattr(config, "hidden_size", None)
    head_dim = getattr(config, "head_dim", None)
    if head_dim is None and isinstance(hidden_size, int) and isinstance(n_heads, int):
        head_dim = hidden_size // n_heads
    n_kv_heads = getattr(config, "num_key_value_heads", None) or n_heads
    found = {
        "hidden_size": hidden_size,
        "num_hidden_layers": getattr(config, "num_hidden_layers", None),
        "num_key_value_heads": n_kv_heads,
        "head_dim": head_dim,
    }
    missing = [name for name, size in found.items() if not isinstance(size, int)]
    if missing:
        raise ValueError(
            f"llm_path={path!r}: the config of this {config.model_type!r} model does not give "
            f"{', '.join(missing)}. Use a text-only decoder (Llama, Mistral, Qwen, Gemma, SmolLM)."
        )
    return BackboneShape(*(int(size) for size in found.values() if size is not None))


def checkpoint_layers(model: nn.Module) -> None:
    """Make each decoder layer recompute its activations in the backward pass, in place.

    transformers' own checkpointing sets ``past_key_values`` to None in training, because a cache
    that grows would grow twice. The cache of HeLLM's graph prefix does not grow, so running a layer
    twice is safe and the prefix can stay.

    Args:
        model: decoder, plain or with adapters.

    Raises:
        ValueError: the model has no list of decoder layers.
    """
    for layer in decoder_layers(model):
        layer.forward = partial(_checkpointed, layer.forward)


def _checkpointed(forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)


def _check_4bit() -> None:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError(
            "load_in_4bit needs bitsandbytes, which is not installed. Install it with "
            "`pip install recbole-llm[quantize]`, or set load_in_4bit to False."
        )
    if not torch.cuda.is_available():
        raise ValueError(
            "load_in_4bit (extra recbole-llm[quantize]) needs a CUDA device and torch sees none. "
            "Set load_in_4bit to False."
        )


def _options_4bit(dtype: torch.dtype | str) -> dict[str, Any]:
    from transformers import BitsAndBytesConfig

    compute = dtype if isinstance(dtype, torch.dtype) else torch.bfloat16
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )
    return {"quantization_config": config, "device_map": {"": torch.cuda.current_device()}}


def read_config(
    folder: str,
    revision: str | None,
    num_layers: int | None,
    path: str,
    encoder_decoder: bool = False,
) -> PreTrainedConfig:
    """Read a model's config, cut to its first layers.

    Args:
        folder: folder in Hugging Face format, or an id of the hub.
        revision: branch, tag or commit of a Hugging Face id.
        num_layers: number of first layers to keep (of encoder and decoder each); None keeps all.
        path: ``llm_path`` of the model, for the error.
        encoder_decoder: whether encoder-decoders of the T5 family are accepted as well as decoders.

    Raises:
        ValueError: the model is not a decoder, or has fewer layers.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    config = AutoConfig.from_pretrained(folder, revision=revision)
    is_t5 = config.model_type in T5_FAMILY
    encodes = config.is_encoder_decoder or config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if encodes and not (encoder_decoder and is_t5):
        also = f" and encoder-decoders ({', '.join(T5_FAMILY)})" if encoder_decoder else ""
        raise ValueError(
            f"llm_path={path!r} is a {config.model_type!r} model, which has an encoder; only "
            f"decoders are supported (Llama, Mistral, Qwen, Gemma, SmolLM){also}."
        )
    total = backbone_shape(config, path).n_layers
    if num_layers is not None:
        if isinstance(num_layers, bool) or not 1 <= num_layers <= total:
            raise ValueError(
                f"num_layers must be an integer in 1..{total}, the layers of {path!r}, "
                f"got num_layers={num_layers}."
            )
        for name in ("layer_types", "mlp_layer_types"):
            if isinstance(getattr(config, name, None), list):
                setattr(config, name, getattr(config, name)[:num_layers])
        config.num_hidden_layers = num_layers
        if is_t5:
            config.num_decoder_layers = num_layers
    return config


def _read(
    folder: str,
    revision: str | None,
    num_layers: int | None,
    options: dict[str, Any],
    path: str,
    encoder_decoder: bool,
    with_head: bool,
) -> tuple[PreTrainedModel, Tensor | None, PreTrainedTokenizerBase]:
    """Return the trunk, its head where that is asked for, and the tokenizer."""
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    config = read_config(folder, revision, num_layers, path, encoder_decoder)
    kind: Any = AutoModelForCausalLM if with_head else AutoModel
    with quiet():  # the layers left out would be reported as unexpected weights
        model, info = kind.from_pretrained(
            folder, revision=revision, config=config, output_loading_info=True, **options
        )
    if info["missing_keys"]:
        raise OSError(f"weights are missing, among them {sorted(info['missing_keys'])[0]}")
    tokenizer = AutoTokenizer.from_pretrained(folder, revision=revision)
    if not with_head:
        return model, None, tokenizer
    return model.base_model, model.get_output_embeddings().weight.detach(), tokenizer
