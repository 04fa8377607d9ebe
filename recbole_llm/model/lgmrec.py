"""LGMRec: local graphs of behaviour and of each modality, and global hypergraphs.

Reference: Z. Guo et al., "LGMRec: Local and Global Graph Learning for Multimodal Recommendation",
AAAI 2024, arXiv:2312.16400 (the paper's modules are named at the lines).
As in the authors' code, the contrastive loss is summed over the batch, so that their weights fit;
the L2 term is of the batch's final embeddings. With more than two modalities every pair of them is
contrasted; with one there is nothing to contrast.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.model.init import xavier_uniform_initialization
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.hyperedges import HYPEREDGES, hyperedge_views, learned_hyperedges
from recbole_llm.model.loss import Factored, cross_modal_loss, ranking_loss
from recbole_llm.model.modality_graph import FrozenFeatures, ModalityPropagation
from recbole_llm.model.propagation import (
    interaction_operator,
    propagate_mean,
    training_adjacency,
    triplet_rows,
)
from recbole_llm.processes import WHOLE, Share
from recbole_llm.settings.group import Settings
from recbole_llm.settings.run import TRAINING
from recbole_llm.settings.values import Float, Int


class Views(NamedTuple):
    """Embeddings of all nodes, users first.

    Attributes:
        final: (N, d) fusion of all embeddings, which items are ranked by.
        hyper: one (N, d) embedding a modality, through its hyperedges, in factored form.
    """

    final: Tensor
    hyper: list[Factored]


class LGMRec(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width.

    Config keys: ``embedding_size`` (d), ``n_layers`` ``n_modality_layers`` ``n_hyper_layers``,
    ``n_hyperedges``, ``hyper_dropout``, ``global_weight`` (alpha), ``cl_weight`` (lambda_1),
    ``reg_weight`` (lambda_2), ``temperature`` (tau).
    """

    settings = (
        TRAINING
        | HYPEREDGES
        | Settings(
            embedding_size=Int(1),
            n_layers=Int(0),
            n_modality_layers=Int(0),
            global_weight=Float(0),
            cl_weight=Float(0),
            reg_weight=Float(0),
        )
    )

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

    def views(self) -> Views:
        """Return the fused embeddings of all nodes, and those that are contrasted."""
        hidden = torch.cat([self.user_embedding.weight, self.item_embedding.weight])  # (N, d)
        # Local graph embedding: of behaviour, and of each modality
        collaborative = propagate_mean(self.norm_adj, hidden, self.n_layers)  # (N, d)
        final: Tensor = collaborative
        for name, feature in self.features.items():
            modality = self.modality_part(self.project[name](feature), self.norm_adj)  # (N, d)
            final = final + F.normalize(modality, dim=-1)
        # Global hypergraph embedding, weighted by alpha
        item_emb = collaborative[self.n_users :]  # (I, d)
        hyper = hyperedge_views(self.hyperedges, self.features, self.interactions, item_emb)
        total = torch.stack([view.dense() for view in hyper]).sum(dim=0)  # (N, d)
        return Views(final + self.global_weight * F.normalize(total, dim=-1), hyper)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return user (U, d) and item (I, d) embeddings."""
        final = self.views().final
        return final[: self.n_users], final[self.n_users :]

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR + lambda_1 times the hypergraph contrast + lambda_2 L2, a scalar."""
        return self.loss_share(interaction, WHOLE)

    def loss_share(self, batch: Interaction, share: Share) -> Tensor:
        """Return a process's share of the loss, in which the contrast is a sum over rows."""
        own = batch[share.rows(len(batch))]
        user, pos, neg = (own[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        views = self.views()
        batch_rows = triplet_rows(views.final, self.n_users, user, pos, neg)
        loss = ranking_loss(*batch_rows, self.reg_weight) * (len(own) / len(batch))
        if self.cl_weight:
            contrast = cross_modal_loss(views.hyper, user, pos, self.n_users, self.temperature)
            loss = loss + self.cl_weight * contrast
        return loss
