"""DualGNN: modalities weighed by each user, over a user-item graph and a graph of similar users.

Reference: Q. Wang et al., "DualGNN: Dual Graph Neural Network for Multimedia Recommendation", TMM
2021 (the paper's parts are named at the methods).
Departs from the public codes: MMRec's adds the second modality onto the first in place, so that
users weigh the sum of both in place of the first; scores are those of the current weights, theirs
those of the last training batch; neighbours of users who have fewer than ``user_k`` are not
repeated (see ``user_neighbour_operator``); weights of items' modalities, which no score depends on,
are left out of L2.
Tables and layers start Xavier-uniform with zero bias, theirs Xavier-normal and as torch's do.
"""

import torch
from recbole.model.init import xavier_uniform_initialization
from torch import Tensor

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.model.modality_graph import FrozenFeatures
from recbole_llm.model.preference import (
    ModalityPreferences,
    PreferenceRecommender,
    modality_weight_table,
)
from recbole_llm.model.propagation import training_adjacency, user_neighbour_operator
from recbole_llm.settings.group import Settings
from recbole_llm.settings.run import TRAINING
from recbole_llm.settings.values import Float, Int


class DualGNN(PreferenceRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width. M: modalities.

    Config keys: ``embedding_size`` (d), ``n_layers``, ``user_k``, ``reg_weight``.
    """

    settings = TRAINING | Settings(
        embedding_size=Int(1), n_layers=Int(0), user_k=Int(1), reg_weight=Float(0)
    )

    norm_adj: Tensor  # sparse (N, N), D^-1/2 A D^-1/2, training edges only

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, self.n_layers = config["embedding_size"], config["n_layers"]
        self.reg_weight = config["reg_weight"]
        self.features = FrozenFeatures("DualGNN", dataset)
        self.preferences = ModalityPreferences(self.features, self.n_users, dim)
        self.apply(xavier_uniform_initialization)
        self.modality_weight = modality_weight_table(self.n_users, len(self.features))
        self.similar_users = user_neighbour_operator(dataset, config["user_k"])
        self.register_buffer("norm_adj", training_adjacency(dataset), persistent=False)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return user (U, d) and item (I, d) embeddings.

        Multi-modal representation learning gives both; users weigh their modalities, and the user
        co-occurrence graph adds what their neighbours are.
        """
        views = self.preferences(self.features, self.norm_adj, self.n_layers)
        nodes = torch.stack(list(views.values()), dim=-1)  # (N, d, M)
        weight = self.modality_weight.weight.unsqueeze(1)  # (U, 1, M)
        user_h = (nodes[: self.n_users] * weight).sum(dim=-1)  # (U, d)
        return user_h + self.similar_users(user_h), nodes[self.n_users :].sum(dim=-1)
