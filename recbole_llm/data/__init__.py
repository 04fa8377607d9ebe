"""Datasets with item features, user histories and the loaders that feed training and ranking."""

import recbole_llm.compat  # noqa: F401 - RecBole is repaired before any of it is imported
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
