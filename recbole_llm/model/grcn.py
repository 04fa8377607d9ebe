"""GRCN: edges of the user-item graph are weighed by content, and unlikely ones are pruned.

Reference: Y. Wei et al., "Graph-Refined Convolutional Network for Multimedia Recommendation with
Implicit Feedback", MM 2020, arXiv:2008.10411 (the paper's parts are named at the methods).
Departs from both public codes: there the messages of the routing arrive at the items and are
dropped, so users' preferences never move; here they arrive at the users, as in the paper. With
``n_routings: 0`` the two are equal. Scores are those of the current weights, theirs those of the
last training batch. L2 is of the batch's rows alone; MMRec's code adds the whole preference table
of the first modality. Tables start Xavier-uniform where theirs are Xavier-normal, and biases zero.
Pruning is hard, as in MMRec; node dropout and activations are off, as in both codes.
"""

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.model.init import xavier_uniform_initialization
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.graph.pattern import EdgePattern
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.loss import bpr_loss, mean_square
from recbole_llm.model.modality_graph import FrozenFeatures
from recbole_llm.model.propagation import rows
from recbole_llm.settings.group import Settings
from recbole_llm.settings.run import TRAINING
from recbole_llm.settings.values import Float, Int


class GRCN(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width.

    E: training edges. M: modalities.

    Config keys: ``embedding_size`` (d), ``n_routings`` (T), ``n_layers``, ``reg_weight`` (lambda).
    """

    settings = TRAINING | Settings(
        embedding_size=Int(1), n_routings=Int(0), n_layers=Int(0), reg_weight=Float(0)
    )

    input_type = InputType.PAIRWISE

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, self.n_layers = config["embedding_size"], config["n_layers"]
        self.n_routings, self.reg_weight = config["n_routings"], config["reg_weight"]
        self.user_embedding = nn.Embedding(self.n_users, dim)
        self.item_embedding = nn.Embedding(self.n_items, dim)
        self.features = FrozenFeatures("GRCN", dataset)
        self.project = self.features.linear(dim)
        names, n_modalities = self.features.names, len(self.features)
        self.preference = nn.ModuleDict({name: nn.Embedding(self.n_users, dim) for name in names})
        self.user_confidence = nn.Embedding(self.n_users, n_modalities)
        self.item_confidence = nn.Embedding(self.n_items, n_modalities)
        self.apply(xavier_uniform_initialization)
        edges = dataset.inter_matrix(form="coo")
        user, item = torch.from_numpy(edges.row).long(), torch.from_numpy(edges.col).long()
        self.user_edges = EdgePattern(user, item, (self.n_users, self.n_items))  # E
        n_nodes, item = self.n_users + self.n_items, item + self.n_users
        # 2E edges: row is the node that receives, col the one that sends
        self.edges = EdgePattern(
            torch.cat([user, item]), torch.cat([item, user]), (n_nodes, n_nodes)
        )

    def content(self, name: str, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Return one modality's content (N, d) of all nodes, and its attention (2E,) on edges.

        Prototypical network: a user's preference is routed towards the items that it attends to;
        the final attention weighs both directions of an edge.

        Args:
            name: name of the modality.
            feature: (I, F_m) frozen features.
        """
        item_h = F.normalize(F.leaky_relu(self.project[name](feature)), dim=-1)  # (I, d)
        user_h = F.normalize(self.preference.get_parameter(f"{name}.weight"), dim=-1)  # (U, d)
        for _ in range(self.n_routings):
            attention = self.user_edges.softmax(self.user_edges.dot(user_h, item_h))  # (E,)
            user_h = F.normalize(user_h + self.user_edges.matmul(attention, item_h), dim=-1)
        nodes = torch.cat([user_h, item_h])
        attention = self.edges.softmax(self.edges.dot(nodes, nodes))  # (2E,)
        return nodes + self.edges.matmul(attention, nodes), attention

    def edge_weight(self, attentions: list[Tensor]) -> Tensor:
        """Return the weights (2E,) of the refined graph; a pruned edge has 0.

        Graph refining layer: of the modalities' attentions, each times the confidence that the
        sending node has in the modality, the largest counts.

        Args:
            attentions: (2E,) of each of the M modalities.
        """
        confidence = torch.cat([self.user_confidence.weight, self.item_confidence.weight])
        by_modality = torch.stack(attentions, dim=1) * rows(confidence, self.edges.col)  # (2E, M)
        return by_modality.amax(dim=1).relu()

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return user (U, d (1 + M)) and item (I, d (1 + M)) embeddings."""
        parts = [self.content(name, feature) for name, feature in self.features.items()]
        weight = self.edge_weight([attention for _, attention in parts])  # (2E,)
        hidden = torch.cat([self.user_embedding.weight, self.item_embedding.weight])
        hidden = F.normalize(hidden, dim=-1)  # (N, d)
        total = hidden
        for _ in range(self.n_layers):  # graph convolutional layers over the refined graph
            hidden = self.edges.matmul(weight, hidden)
            total = total + hidden
        out = torch.cat([total, *(content for content, _ in parts)], dim=-1)  # (N, d (1 + M))
        return out[: self.n_users], out[self.n_users :]

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR plus lambda times L2 of the batch's ids and preferences, a scalar.

        L2 is a mean over numbers, as in the authors' code, so that their lambda fits.
        """
        user, pos, neg = (interaction[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        user_emb, item_emb = self()
        user_e, pos_e, neg_e = rows(user_emb, user), rows(item_emb, pos), rows(item_emb, neg)
        loss = bpr_loss((user_e * pos_e).sum(-1), (user_e * neg_e).sum(-1))
        reg_loss = mean_square(self.user_embedding(user))
        reg_loss = reg_loss + mean_square(self.item_embedding(torch.cat([pos, neg])))
        for preference in self.preference.values():
            reg_loss = reg_loss + mean_square(preference(user))
        return loss + self.reg_weight * reg_loss
