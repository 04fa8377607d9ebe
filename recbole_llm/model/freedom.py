"""FREEDOM: a frozen item-item graph next to a user-item graph that is thinned every epoch.

Reference: X. Zhou and Z. Shen, "A Tale of Two Graphs: Freezing and Denoising Graph Structures for
Multimodal Recommendation", MM 2023, arXiv:2211.06924 (section numbers below).
Departs from the public code: item features are frozen, not trained. With more than two modalities
the weights of their graphs add up to 1, as the paper's alpha and 1 - alpha do.
"""

from collections.abc import Mapping

import torch
from recbole.data.interaction import Interaction
from recbole.model.init import xavier_uniform_initialization
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.graph.adjacency import bipartite_norm_adj, norm_interactions
from recbole_llm.graph.sampling import sample_edges
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.loss import bpr_loss
from recbole_llm.model.modality_graph import REFINEMENT, FrozenFeatures, item_graph_operators
from recbole_llm.model.propagation import propagate_mean, rows, training_adjacency
from recbole_llm.settings.group import MapOf, Optional, Settings
from recbole_llm.settings.run import TRAINING
from recbole_llm.settings.values import Float, Int


class FREEDOM(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width.

    Config keys: ``embedding_size`` (d), ``n_layers`` (user-item), ``n_item_layers``, ``knn_k``,
    ``graph_refinement`` with its three keys (see ``item_graph_operator``),
    ``modality_weights``, ``edge_dropout``, ``reg_weight`` (lambda).
    """

    settings = (
        TRAINING
        | REFINEMENT
        | Settings(
            embedding_size=Int(1),
            n_layers=Int(0),
            n_item_layers=Int(0),
            knn_k=Int(1),
            modality_weights=Optional(MapOf(Float(0))),
            edge_dropout=Float(0, below=1),
            reg_weight=Float(0),
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
        self.features = FrozenFeatures("FREEDOM", dataset)
        self.project = self.features.linear(dim)
        self.apply(xavier_uniform_initialization)
        self.modality_weights = share_weights(config["modality_weights"], self.features.names)
        self.item_graphs = item_graph_operators(config, dataset, self.features, weighted=False)
        self.register_buffer("norm_adj", training_adjacency(dataset), persistent=False)
        edges = dataset.inter_matrix(form="coo")
        block = norm_interactions(edges.row, edges.col, self.n_users, self.n_items).to_sparse_coo()
        self.register_buffer("edge_index", block.indices(), persistent=False)  # (2, E)
        self.register_buffer("edge_weight", block.values(), persistent=False)  # 1 / sqrt(d_u d_i)
        self._sampled: Tensor | None = None  # None: all edges

    def begin_epoch(self) -> None:
        """Draw the epoch's user-item graph: few edges of popular nodes are kept (section 3.2)."""
        if not self.edge_dropout:
            return
        n_kept = int(len(self.edge_weight) * (1.0 - self.edge_dropout))
        user, item = self.edge_index[:, sample_edges(self.edge_weight, n_kept)]
        self._sampled = bipartite_norm_adj(user, item, self.n_users, self.n_items)

    def forward(self, norm_adj: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return user (U, d) and item (I, d) embeddings, by default over all training edges."""
        adjacency = self.norm_adj if norm_adj is None else norm_adj
        hidden = torch.cat([self.user_embedding.weight, self.item_embedding.weight])  # (N, d)
        out = propagate_mean(adjacency, hidden, self.n_layers)
        item_h = self.item_embedding.weight
        for _ in range(self.n_item_layers):
            item_h = self.propagate_items(item_h)
        return out[: self.n_users], out[self.n_users :] + item_h

    def propagate_items(self, item_h: Tensor) -> Tensor:
        """Return one layer over the weighted sum of the modalities' item graphs, (I, d)."""
        layers = [
            weight * graph(item_h)
            for weight, graph in zip(self.modality_weights, self.item_graphs.values(), strict=True)
        ]
        return sum(layers[1:], layers[0])

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


def share_weights(given: Mapping[str, float] | None, names: list[str]) -> list[float]:
    """Return one weight a modality, adding up to 1; those not given share the rest equally.

    Args:
        given: weights >= 0 of some modalities, or of all, by name; None: of none.
        names: names of all modalities, in the order of the result.

    Raises:
        ValueError: a weight is negative, the given ones exceed 1 although others are left, or all
            weights are 0.
    """
    given = given or {}
    fixed = {name: float(given[name]) for name in names if name in given}
    others, left = len(names) - len(fixed), 1.0 - sum(fixed.values())
    if min(fixed.values(), default=0.0) < 0 or (others and left < 0):
        raise ValueError(
            f"modality_weights must be numbers >= 0 that add up to at most 1, got {dict(given)}."
        )
    weights = [fixed.get(name, left / max(others, 1)) for name in names]
    if not sum(weights) > 0:
        raise ValueError(f"modality_weights leave every modality of {names} without weight.")
    return [weight / sum(weights) for weight in weights]
