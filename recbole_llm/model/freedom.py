"""FREEDOM: a frozen item-item graph next to a user-item graph that is thinned every epoch.

Reference: X. Zhou and Z. Shen, "A Tale of Two Graphs: Freezing and Denoising Graph Structures for
Multimodal Recommendation", MM 2023, arXiv:2211.06924 (section numbers below).
With more than two modalities the weights of their graphs add up to 1, as the paper's alpha and
1 - alpha do. Settings offer what the public code does beyond the paper: it trains the item
features, and its linear layers start as torch's do.
"""

import torch
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.initialization import initialize
from recbole_llm.model.item_mixture import ITEM_MIXTURE, mixed_item_graph, share_weights
from recbole_llm.model.loss import bpr_loss
from recbole_llm.model.modality_graph import TRAINED_FEATURES, item_features
from recbole_llm.model.propagation import EdgeSampler, propagate_mean, rows, training_adjacency
from recbole_llm.settings.group import Settings
from recbole_llm.settings.run import TRAINING
from recbole_llm.settings.values import Choice, Float, Int


class FREEDOM(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width.

    Config keys: ``embedding_size`` (d), ``n_layers`` (user-item), ``n_item_layers``, ``knn_k``,
    ``graph_refinement`` with its three keys (see ``item_graph_operator``),
    ``modality_weights``, ``edge_dropout``, ``reg_weight`` (lambda), ``initialization``,
    ``train_features``.
    """

    settings = (
        TRAINING
        | ITEM_MIXTURE
        | TRAINED_FEATURES
        | Settings(
            embedding_size=Int(1),
            n_layers=Int(0),
            n_item_layers=Int(0),
            edge_dropout=Float(0, below=1),
            reg_weight=Float(0),
            initialization=Choice("xavier", "torch"),
        )
    )

    input_type = InputType.PAIRWISE
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
        self.edge_dropout = config["edge_dropout"]
        self.user_embedding = nn.Embedding(self.n_users, dim)
        self.item_embedding = nn.Embedding(self.n_items, dim)
        self.features = item_features("FREEDOM", config, dataset)
        self.project = self.features.linear(dim)
        initialize(self, config["initialization"])
        self.item_graph = mixed_item_graph(config, dataset, self.features)
        self.register_buffer("norm_adj", training_adjacency(dataset), persistent=False)
        self.sampler = EdgeSampler(dataset)
        self._sampled: Tensor | None = None  # None: all edges

    def begin_epoch(self) -> None:
        """Draw the epoch's user-item graph: few edges of popular nodes are kept (section 3.2)."""
        if self.edge_dropout:
            self._sampled = self.sampler.draw(self.edge_dropout)

    def forward(self, norm_adj: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return user (U, d) and item (I, d) embeddings, by default over all training edges."""
        adjacency = self.norm_adj if norm_adj is None else norm_adj
        hidden = torch.cat([self.user_embedding.weight, self.item_embedding.weight])  # (N, d)
        out = propagate_mean(adjacency, hidden, self.n_layers)
        item_h = self.item_embedding.weight
        for _ in range(self.n_item_layers):
            item_h = self.item_graph(item_h)
        return out[: self.n_users], out[self.n_users :] + item_h

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR plus lambda times each modality's BPR, a scalar averaged over B."""
        user, pos, neg = (interaction[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        if self._sampled is None:
            self.begin_epoch()
        user_emb, item_emb = self(self._sampled)
        user_e, pos_e, neg_e = rows(user_emb, user), rows(item_emb, pos), rows(item_emb, neg)
        loss = bpr_loss((user_e * pos_e).sum(-1), (user_e * neg_e).sum(-1))
        if not self.reg_weight:
            return loss
        # Only the batch's items are projected, each once.
        item, position = torch.cat([pos, neg]).unique(return_inverse=True)
        for name, feature in self.features.items():
            projected = self.project[name](rows(feature, item))  # (distinct items, d)
            pos_e, neg_e = rows(projected, position).chunk(2)  # (B, d)
            scores = (user_e * pos_e).sum(-1), (user_e * neg_e).sum(-1)
            loss = loss + self.reg_weight * bpr_loss(*scores)
        return loss
