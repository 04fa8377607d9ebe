"""Datasets with item features, user histories and the loaders that feed training and ranking.

A name is imported when it is first asked for: what works on raw files starts without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_llm.data.dataset import MultimodalDataset, MultimodalSequentialDataset
    from recbole_llm.data.history import UserHistory
    from recbole_llm.data.loader import FullRankLoader, PrefixLoader, WindowLoader

__all__ = [
    "FullRankLoader",
    "MultimodalDataset",
    "MultimodalSequentialDataset",
    "PrefixLoader",
    "UserHistory",
    "WindowLoader",
]

_MODULES = {
    "FullRankLoader": "loader",
    "MultimodalDataset": "dataset",
    "MultimodalSequentialDataset": "dataset",
    "PrefixLoader": "loader",
    "UserHistory": "history",
    "WindowLoader": "loader",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module("recbole_llm.compat")  # RecBole is repaired before any of it is used
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
