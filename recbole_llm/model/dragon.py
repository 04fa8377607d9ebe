"""DRAGON: modalities side by side, over user-item, similar-user and similar-item graphs.

Reference: H. Zhou et al., "Enhancing Dyadic Relations with Homogeneous Graphs for Multimodal
Recommendation", ECAI 2023, arXiv:2301.12097 (the paper's parts are named at the methods).
Departs from the public codes: scores are those of the current weights, theirs those of the last
training batch; neighbours of users who have fewer than ``user_k`` are not repeated (see
``user_neighbour_operator``). With more than two modalities the weights of their item graphs add up
to 1. Tables and layers start Xavier-uniform with zero bias, theirs Xavier-normal and as torch's do.
The code declares trained item features and never reads them; they are frozen here.
"""

import torch
from recbole.model.init import xavier_uniform_initialization
from torch import Tensor

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.model.item_mixture import ITEM_MIXTURE, mixed_item_graph, share_weights
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


class DRAGON(PreferenceRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width. M: modalities.

    Config keys: ``embedding_size`` (d, of each modality), ``n_layers`` (user-item),
    ``n_item_layers``, those of ``mixed_item_graph``, ``user_k``, ``reg_weight``.
    """

    settings = (
        TRAINING
        | ITEM_MIXTURE
        | Settings(
            embedding_size=Int(1),
            n_layers=Int(0),
            n_item_layers=Int(0),
            user_k=Int(1),
            reg_weight=Float(0),
        )
    )

    norm_adj: Tensor  # sparse (N, N), D^-1/2 A D^-1/2, training edges only

    @classmethod
    def check_settings(cls, config: Config) -> None:
        """Check that the weights of the modalities' graphs can add up to 1.

        Raises:
            ValueError: ``share_weights`` refuses the weights.
        """
        if config["modalities"]:
            share_weights(config["modality_weights"], list(config["modalities"]))

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, self.n_layers = config["embedding_size"], config["n_layers"]
        self.n_item_layers, self.reg_weight = config["n_item_layers"], config["reg_weight"]
        self.features = FrozenFeatures("DRAGON", dataset)
        self.preferences = ModalityPreferences(self.features, self.n_users, dim)
        self.apply(xavier_uniform_initialization)
        self.modality_weight = modality_weight_table(self.n_users, len(self.features))
        self.item_graph = mixed_item_graph(config, dataset, self.features)
        self.similar_users = user_neighbour_operator(dataset, config["user_k"])
        self.register_buffer("norm_adj", training_adjacency(dataset), persistent=False)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return user (U, M d) and item (I, M d) embeddings.

        Dyadic relations give both, modality by modality, each weighed by the user; homogeneous
        graphs of users and of items add what their neighbours are.
        """
        views = self.preferences(self.features, self.norm_adj, self.n_layers)
        users = [
            view[: self.n_users] * weight.unsqueeze(1)  # (U, d)
            for view, weight in zip(views.values(), self.modality_weight.weight.T, strict=True)
        ]
        user_h = torch.cat(users, dim=1)  # (U, M d)
        item_in = torch.cat([view[self.n_users :] for view in views.values()], dim=1)  # (I, M d)
        item_h = item_in
        for _ in range(self.n_item_layers):
            item_h = self.item_graph(item_h)
        return user_h + self.similar_users(user_h), item_in + item_h
