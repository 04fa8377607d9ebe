"""Frozen vectors of content: an item's modalities as one, and a user's profile."""

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.graph.sparse import spmm
from recbole_llm.model.modality_graph import FrozenFeatures
from recbole_llm.model.propagation import user_mean_matrix


def side_by_side(features: FrozenFeatures) -> Tensor:
    """Return E_I (I, F): the only modality as it is, or several with unit rows side by side."""
    parts = [feature for _, feature in features.items()]
    return parts[0] if len(parts) == 1 else torch.cat([F.normalize(p, dim=-1) for p in parts], 1)


def user_profiles(config: Config, dataset: MultimodalDataset, feature: Tensor) -> Tensor:
    """Return E_U (U, F): encoded profiles, or the mean of the features of a user's training items.

    Raises:
        ValueError, FileNotFoundError: the folder of profiles is missing or malformed.
    """
    if config["user_profile"] != "mean":
        return dataset.user_profile(config["user_profile"])
    return spmm(user_mean_matrix(dataset), feature)
