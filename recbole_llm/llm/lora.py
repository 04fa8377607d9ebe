"""Low-rank adapters on a frozen trunk, by PEFT.

HeLLM puts them on the feed-forward projections of every layer with r = 16, alpha = 16 and dropout
0.05. Only adapter weights are saved; ``Backbone.source`` says where the trunk is found again.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from peft import PeftModel


def add_lora(
    model: nn.Module,
    r: int = 16,
    alpha: int = 16,
    dropout: float = 0.05,
    target_modules: Sequence[str] = ("gate_proj", "up_proj", "down_proj"),
) -> PeftModel:
    """Wrap the named linear layers of every decoder layer; all other weights stay frozen.

    The output is unchanged until training: LoRA's B starts at zero (Hu et al., "LoRA", ICLR 2022,
    arXiv:2106.09685, section 4.1). ``model`` itself is modified.

    Args:
        model: trunk whose weights are frozen.
        r: rank of an adapter, >= 1.
        alpha: numerator of the adapters' scale alpha / r.
        dropout: rate on the adapters' input in training, in [0, 1).
        target_modules: last parts of the names of the linear layers that get an adapter.

    Returns:
        The model in PEFT's wrapper; the adapters' weights are the only ones that are trained.

    Raises:
        ValueError: r < 1, dropout is not in [0, 1), a target is not a linear layer of the model, or
            PEFT does not support the model.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    if r < 1:
        raise ValueError(f"LoRA's r must be an integer >= 1, got r={r}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"LoRA's dropout must lie in [0, 1), got dropout={dropout}.")
    if isinstance(target_modules, str):
        raise ValueError(f"target_modules must be a list of names, got {target_modules!r}.")
    linear = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    unknown = [name for name in target_modules if name not in linear]
    if unknown or not target_modules:
        raise ValueError(
            f"target_modules: {', '.join(unknown) or 'nothing'} is not a linear layer of this "
            f"{type(model).__name__}. Its linear layers: {', '.join(sorted(linear)) or 'none'}."
        )
    config = LoraConfig(
        r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(target_modules)
    )
    with warnings.catch_warnings():  # PEFT asks transformers for a flag under its old name
        warnings.simplefilter("ignore", FutureWarning)
        try:
            adapted = get_peft_model(model, config)
        except ValueError as error:  # such as layers of experts, which PEFT knows by other names
            raise ValueError(
                f"PEFT cannot put adapters on {', '.join(target_modules)} of this "
                f"{type(model).__name__}: {error}"
            ) from error
    assert isinstance(adapted, PeftModel)  # not the mixed-adapter kind, which is not asked for
    return adapted


def save_adapter(model: PeftModel, folder: str | Path) -> None:
    """Write the adapter, and nothing of the trunk, as a folder that ``PeftModel`` reads.

    Args:
        model: result of ``add_lora``.
        folder: folder to write, made if it does not exist.
    """
    model.save_pretrained(str(folder), save_embedding_layers=False)
