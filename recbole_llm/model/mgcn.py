"""MGCN: content purified by behaviour, propagated in views of its own, and fused by preference.

Reference: P. Yu et al., "Multi-View Graph Convolutional Network for Multimedia Recommendation",
MM 2023, arXiv:2308.03588 (sections below).
Departs from the public code: item features are frozen, not trained. Of three or more modalities
the shared part and every specific part are averaged, as the code does for two.
"""

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.model.init import xavier_uniform_initialization
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.graph.adjacency import norm_interactions
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.loss import bpr_loss, info_nce, l2_loss
from recbole_llm.model.modality_graph import FrozenFeatures, item_graph_operator
from recbole_llm.model.propagation import Operator, propagate_mean, rows, training_adjacency


class MGCN(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width.

    Config keys: ``embedding_size`` (d), ``n_layers`` (user-item), ``n_item_layers``, ``knn_k``,
    ``graph_refinement`` with its three keys (see ``item_graph_operator``),
    ``cl_weight`` (lambda_C), ``temperature`` (tau), ``reg_weight``.
    """

    input_type = InputType.PAIRWISE
    norm_adj: Tensor  # sparse (N, N), D^-1/2 A D^-1/2, training edges only

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, self.n_layers = config["embedding_size"], config["n_layers"]
        self.n_item_layers, self.reg_weight = config["n_item_layers"], config["reg_weight"]
        self.cl_weight, self.temperature = config["cl_weight"], config["temperature"]
        self.user_embedding = nn.Embedding(self.n_users, dim)
        self.item_embedding = nn.Embedding(self.n_items, dim)
        self.features = FrozenFeatures("MGCN", dataset)
        self.project = self.features.linear(dim)
        self.purify = nn.ModuleDict({name: gate(dim) for name in self.features.names})
        self.prefer = nn.ModuleDict({name: gate(dim) for name in self.features.names})
        # what is common to modalities: its attention is one network for all of them
        self.attention = nn.Sequential(
            nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, 1, bias=False)
        )
        self.apply(xavier_uniform_initialization)
        self.item_graphs = nn.ModuleDict(
            {
                name: item_graph_operator(config, dataset, feature, weighted=True)
                for name, feature in self.features.items()
            }
        )
        edges = dataset.inter_matrix(form="coo")
        block = norm_interactions(edges.row, edges.col, self.n_users, self.n_items)
        self.user_items = Operator(block)
        self.register_buffer("norm_adj", training_adjacency(dataset), persistent=False)

    def views(self) -> tuple[Tensor, Tensor]:
        """Return the behaviour view and the fused content view, each (N, d)."""
        hidden = torch.cat([self.user_embedding.weight, self.item_embedding.weight])  # (N, d)
        behaviour = propagate_mean(self.norm_adj, hidden, self.n_layers)
        contents = {}
        for name, feature in self.features.items():
            purified = self.purify[name](self.project[name](feature))  # (I, d) behaviour-guided
            item_h = self.item_embedding.weight * purified
            for _ in range(self.n_item_layers):
                item_h = self.item_graphs[name](item_h)
            contents[name] = torch.cat([self.user_items(item_h), item_h])  # (N, d)
        stacked = torch.stack(list(contents.values()), dim=1)  # (N, M, d)
        weight = F.softmax(self.attention(stacked), dim=1)  # (N, M, 1)
        common = (weight * stacked).sum(dim=1)  # (N, d)
        fused = common
        for name, content in contents.items():
            fused = fused + self.prefer[name](behaviour) * (content - common)
        return behaviour, fused / (len(contents) + 1)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return user (U, d) and item (I, d) embeddings."""
        behaviour, fused = self.views()
        out = behaviour + fused
        return out[: self.n_users], out[self.n_users :]

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR, L2, and the contrast between the two views within the batch."""
        user, pos, neg = (interaction[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        behaviour, fused = self.views()
        out = behaviour + fused
        nodes = [user, pos + self.n_users, neg + self.n_users]
        user_e, pos_e, neg_e = (rows(out, node) for node in nodes)
        loss = bpr_loss((user_e * pos_e).sum(-1), (user_e * neg_e).sum(-1))
        loss = loss + self.reg_weight * l2_loss(user_e, pos_e, neg_e)
        for node in nodes[:2]:
            candidates = rows(behaviour, node)  # (B, d)
            contrast = info_nce(rows(fused, node), candidates, candidates, self.temperature)
            loss = loss + self.cl_weight * contrast
        return loss


def gate(width: int) -> nn.Module:
    """Return a gate (.., width) -> (.., width) with values in (0, 1)."""
    return nn.Sequential(nn.Linear(width, width), nn.Sigmoid())
