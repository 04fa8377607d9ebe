"""LightGCN: linear propagation over the user-item graph.

Reference: X. He et al., "LightGCN: Simplifying and Powering Graph Convolution Network for
Recommendation", SIGIR 2020, arXiv:2002.02126 (equation numbers below).
"""

import torch
from recbole.data.interaction import Interaction
from recbole.model.init import xavier_uniform_initialization
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.loss import bpr_loss, l2_loss
from recbole_llm.model.propagation import propagate_mean, rows, training_adjacency
from recbole_llm.settings.group import Settings
from recbole_llm.settings.run import TRAINING
from recbole_llm.settings.values import Float, Int


class LightGCN(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width.

    Config keys: ``embedding_size`` (d), ``n_layers`` (K), ``reg_weight``.
    """

    settings = TRAINING | Settings(embedding_size=Int(1), n_layers=Int(0), reg_weight=Float(0))

    input_type = InputType.PAIRWISE
    norm_adj: Tensor  # sparse (N, N), D^-1/2 A D^-1/2, training edges only

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, self.n_layers = config["embedding_size"], config["n_layers"]
        self.reg_weight = config["reg_weight"]
        self.user_embedding = nn.Embedding(self.n_users, dim)
        self.item_embedding = nn.Embedding(self.n_items, dim)
        self.register_buffer("norm_adj", training_adjacency(dataset), persistent=False)
        self.apply(xavier_uniform_initialization)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the propagated user (U, d) and item (I, d) embeddings (eq. 7, 8)."""
        hidden = torch.cat([self.user_embedding.weight, self.item_embedding.weight])  # (N, d)
        out = propagate_mean(self.norm_adj, hidden, self.n_layers)
        return out[: self.n_users], out[self.n_users :]

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR plus L2 on the layer-0 embeddings, a scalar averaged over B (eq. 15)."""
        user, pos, neg = (interaction[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        user_emb, item_emb = self()
        user_e, pos_e, neg_e = rows(user_emb, user), rows(item_emb, pos), rows(item_emb, neg)
        loss = bpr_loss((user_e * pos_e).sum(-1), (user_e * neg_e).sum(-1))
        layer0 = self.user_embedding(user), self.item_embedding(pos), self.item_embedding(neg)
        return loss + self.reg_weight * l2_loss(*layer0)
