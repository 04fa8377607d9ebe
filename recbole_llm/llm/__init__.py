"""Language models as recommenders: backbone, graph prefix, LoRA, prompts and text encoders.

The names below load on first use, so that importing this package imports neither transformers nor
PEFT: graph models never pay for them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_llm.llm.backbone import Backbone, load_backbone
    from recbole_llm.llm.lora import (
        adapter_state,
        add_lora,
        load_adapter,
        load_adapter_state,
        save_adapter,
    )
    from recbole_llm.llm.prompt import build_inputs, load_prompt, tokenize_prompt
    from recbole_llm.model.galrec.contrast import KeyQueue, MomentumWeights
    from recbole_llm.model.galrec.galrec.hop_prompt import assemble, load_hop_prompts
    from recbole_llm.model.galrec.reader import NodeReader
    from recbole_llm.model.hellm.prefix import GraphPrefix, last_hidden, prefix_cache

_MODULE_OF = {
    "Backbone": "backbone",
    "load_backbone": "backbone",
    "KeyQueue": "contrast",
    "MomentumWeights": "contrast",
    "assemble": "hop_prompt",
    "load_hop_prompts": "hop_prompt",
    "adapter_state": "lora",
    "add_lora": "lora",
    "load_adapter": "lora",
    "load_adapter_state": "lora",
    "save_adapter": "lora",
    "GraphPrefix": "prefix",
    "input_scales": "prefix",
    "last_hidden": "prefix",
    "prefix_cache": "prefix",
    "build_inputs": "prompt",
    "load_prompt": "prompt",
    "tokenize_prompt": "prompt",
    "NodeReader": "reader",
}

__all__ = [
    "Backbone",
    "GraphPrefix",
    "KeyQueue",
    "MomentumWeights",
    "NodeReader",
    "adapter_state",
    "add_lora",
    "assemble",
    "build_inputs",
    "last_hidden",
    "load_adapter",
    "load_adapter_state",
    "load_backbone",
    "load_hop_prompts",
    "load_prompt",
    "prefix_cache",
    "save_adapter",
    "tokenize_prompt",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
