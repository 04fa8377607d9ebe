"""Low-rank adapters on a frozen trunk, by PEFT.

HeLLM puts them on the feed-forward projections of every layer with r = 16, alpha = 16 and dropout
0.05. Only adapter weights are ever saved; the trunk is found again by ``Backbone.source``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

ADAPTER_FILE = "adapter_model.safetensors"


def add_lora(
    model: nn.Module,
    r: int = 16,
    alpha: int = 16,
    dropout: float = 0.05,
    target_modules: Sequence[str] = ("gate_proj", "up_proj", "down_proj"),
) -> PeftModel:
    """Wrap the named linear layers of every decoder layer; all other weights stay frozen.

    The output is unchanged until training: LoRA's B starts at zero. ``model`` itself is modified.

    Raises:
        ValueError: r < 1, dropout is not in [0, 1), or a target is not a linear layer of the model.
    """
    from peft import LoraConfig

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
    return _wrap(model, config)


def _wrap(model: nn.Module, config: PeftConfig) -> PeftModel:
    from peft import PeftModel, get_peft_model

    with warnings.catch_warnings():  # PEFT asks transformers for a flag under its old name
        warnings.simplefilter("ignore", FutureWarning)
        adapted = get_peft_model(model, config)
    assert isinstance(adapted, PeftModel)  # not the mixed-adapter kind, which is not asked for
    return adapted


def adapter_state(model: PeftModel) -> dict[str, Tensor]:
    """Return copies of the adapter's weights on the CPU, to be put into a checkpoint."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: weight.detach().cpu().clone() for name, weight in state.items()}


def load_adapter_state(model: PeftModel, state: Mapping[str, Tensor]) -> None:
    """Copy weights from ``adapter_state`` into the model's adapter.

    Raises:
        ValueError: a weight is missing, unexpected or of another shape (names the first).
    """
    from peft import set_peft_model_state_dict

    expected = {name: tuple(weight.shape) for name, weight in adapter_state(model).items()}
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    if missing or unexpected:
        raise ValueError(
            f"the adapter does not fit this model: {len(missing)} weights missing, "
            f"{len(unexpected)} unexpected, first {(missing or unexpected)[0]}. Were "
            "target_modules and num_layers the same when it was saved?"
        )
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            raise ValueError(
                f"the adapter does not fit this model: {name} has shape "
                f"{tuple(state[name].shape)}, expected {shape}. Was r the same when it was saved?"
            )
    set_peft_model_state_dict(model, dict(state))


def save_adapter(model: PeftModel, folder: str | Path) -> None:
    """Write the adapter, and nothing of the trunk, as a folder that PEFT reads."""
    model.save_pretrained(str(folder), save_embedding_layers=False)


def load_adapter(model: nn.Module, folder: str | Path, *, trainable: bool = False) -> PeftModel:
    """Put the adapter saved in ``folder`` on a trunk that has none yet.

    Args:
        model: the trunk, as ``load_backbone`` returns it.
        folder: as ``save_adapter`` or PEFT wrote it, with safetensors weights.
        trainable: leave the adapter's weights trainable, to go on training.

    Raises:
        FileNotFoundError: the folder holds no adapter.
        ValueError: the adapter does not fit the model.
    """
    from peft import LoraConfig
    from safetensors.torch import load_file

    folder = Path(folder)
    for name in ("adapter_config.json", ADAPTER_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} holds no saved adapter: {name} does not exist.")
    config = LoraConfig.from_pretrained(str(folder))
    config.inference_mode = not trainable
    adapted = _wrap(model, config)
    load_adapter_state(adapted, load_file(folder / ADAPTER_FILE))
    return adapted
