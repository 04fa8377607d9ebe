"""LGMRec: local graphs of behaviour and of each modality, and global hypergraphs.

Reference: Z. Guo et al., "LGMRec: Local and Global Graph Learning for Multimodal Recommendation",
AAAI 2024, arXiv:2312.16400 (sections below).
As in the authors' code, the contrastive loss is summed over the batch, so that their weights fit;
the L2 term is of the batch's final embeddings. With more than two modalities every pair of them is
contrasted; with one there is nothing to contrast.
"""

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.model.init import xavier_uniform_initialization
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.hyperedges import learned_hyperedges
from recbole_llm.model.loss import Factored, bpr_loss, cross_modal_loss, l2_loss
from recbole_llm.model.modality_graph import FrozenFeatures, ModalityPropagation
from recbole_llm.model.propagation import (
    interaction_operator,
    propagate_mean,
    rows,
    training_adjacency,
)


class LGMRec(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width.

    Config keys: ``embedding_size`` (d), ``n_layers`` ``n_modality_layers`` ``n_hyper_layers``,
    ``n_hyperedges``, ``hyper_dropout``, ``global_weight`` (alpha), ``cl_weight`` (lambda_1),
    ``reg_weight`` (lambda_2), ``temperature`` (tau).
    """

    input_type = InputType.PAIRWISE
    norm_adj: Tensor  # sparse (N, N), D^-1/2 A D^-1/2, training edges only

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, self.n_layers = config["embedding_size"], config["n_layers"]
        self.global_weight, self.cl_weight = config["global_weight"], config["cl_weight"]
        self.reg_weight, self.temperature = config["reg_weight"], config["temperature"]
        self.user_embedding = nn.Embedding(self.n_users, dim)
        self.item_embedding = nn.Embedding(self.n_items, dim)
        self.features = FrozenFeatures("LGMRec", dataset)
        self.project = self.features.linear(dim, bias=False)
        self.apply(xavier_uniform_initialization)
        self.modality_part = ModalityPropagation(dataset, config["n_modality_layers"])
        self.hyperedges = learned_hyperedges(config, self.features)
        self.interactions = interaction_operator(dataset)
        self.register_buffer("norm_adj", training_adjacency(dataset), persistent=False)

    def parts(self) -> tuple[Tensor, list[Factored]]:
        """Return the final embeddings (N, d), and each modality's hypergraph embeddings."""
        hidden = torch.cat([self.user_embedding.weight, self.item_embedding.weight])  # (N, d)
        collaborative = propagate_mean(self.norm_adj, hidden, self.n_layers)
        local: Tensor = collaborative
        hyper: list[Factored] = []
        for name, feature in self.features.items():
            modality = self.modality_part(self.project[name](feature), self.norm_adj)
            local = local + F.normalize(modality, dim=-1)
            item_emb = collaborative[self.n_users :]
            hyper.append(self.hyperedges[name](feature, self.interactions, item_emb))
        fused = torch.stack([view.dense() for view in hyper]).sum(dim=0)  # (N, d)
        return local + self.global_weight * F.normalize(fused, dim=-1), hyper

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return user (U, d) and item (I, d) embeddings."""
        out, _ = self.parts()
        return out[: self.n_users], out[self.n_users :]

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR, the hypergraph contrast and L2."""
        user, pos, neg = (interaction[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        out, hyper = self.parts()
        nodes = [user, pos + self.n_users, neg + self.n_users]
        user_e, pos_e, neg_e = (rows(out, node) for node in nodes)
        loss = bpr_loss((user_e * pos_e).sum(-1), (user_e * neg_e).sum(-1))
        loss = loss + self.reg_weight * l2_loss(user_e, pos_e, neg_e)
        if self.cl_weight:
            contrast = cross_modal_loss(hyper, user, pos, self.n_users, self.temperature)
            loss = loss + self.cl_weight * contrast
        return loss
