"""COHESION: ids refine modalities early, and users and items each have a graph late.

Reference: J. Xu et al., "COHESION: Composite Graph Convolutional Network with Dual-Stage Fusion for
Multimodal Recommendation", SIGIR 2025, arXiv:2504.04452 (the paper's parts are named at the
methods).
Departs from the public code, which takes the id view without gradient, so that its users stay as
they were drawn: here it trains, unless ``detach_id``. That code ranks by the embeddings of the last
training batch, repeats neighbours of users who have fewer than ``user_k``, and decays a weight that
nothing uses; here embeddings are computed for the ranking, users have the neighbours that exist,
and there is no such weight. Linear maps start from Xavier with zero bias unless
``initialization: torch``.
"""

from math import log

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.graph.sparse import spmm
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.initialization import initialize
from recbole_llm.model.item_mixture import ITEM_MIXTURE, mixed_item_graph, share_weights
from recbole_llm.model.loss import bpr_loss, mean_square
from recbole_llm.model.modality_graph import FrozenFeatures
from recbole_llm.model.propagation import (
    EdgeSampler,
    rows,
    training_adjacency,
    user_neighbour_operator,
)
from recbole_llm.settings.group import Settings
from recbole_llm.settings.run import TRAINING
from recbole_llm.settings.values import Bool, Choice, Float, Int


class COHESION(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width.

    V: number of views, the ids' and one a modality. Config keys: ``embedding_size`` (d),
    ``n_layers`` (user-item), ``n_item_layers``, ``user_k``, ``knn_k``, ``modality_weights``,
    ``graph_refinement`` with its three keys (see ``item_graph_operator``), ``edge_dropout``,
    ``reg_weight``, ``detach_id``, ``initialization``.
    """

    settings = (
        TRAINING
        | ITEM_MIXTURE
        | Settings(
            embedding_size=Int(1),
            n_layers=Int(0),
            n_item_layers=Int(0),
            user_k=Int(1),
            edge_dropout=Float(0, below=1),
            reg_weight=Float(0),
            detach_id=Bool(),
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
        self.edge_dropout, self.detach_id = config["edge_dropout"], config["detach_id"]
        self.features = FrozenFeatures("COHESION", dataset)
        self.user_embedding = nn.Embedding(self.n_users, dim)
        self.item_embedding = nn.Embedding(self.n_items, dim)
        names, self.dim = self.features.names, dim
        self.modality_user = nn.ModuleDict({n: nn.Embedding(self.n_users, dim) for n in names})
        self.id_mlp = mlp(dim, dim)
        self.modality_mlp = nn.ModuleDict(
            {name: mlp(feature.size(1), dim) for name, feature in self.features.items()}
        )
        initialize(self, config["initialization"])
        self.item_graph = mixed_item_graph(config, dataset, self.features)
        self.user_graph = user_neighbour_operator(dataset, config["user_k"])
        self.register_buffer("norm_adj", training_adjacency(dataset), persistent=False)
        self.sampler = EdgeSampler(dataset)
        self._sampled: Tensor | None = None  # None: all edges

    def begin_epoch(self) -> None:
        """Draw the epoch's user-item graph, if ``edge_dropout`` says so."""
        if self.edge_dropout:
            self._sampled = self.sampler.draw(self.edge_dropout)

    def start(self) -> Tensor:
        """Return the views of all nodes before propagation, unit rows (N, V, d): early fusion."""
        ids = self.item_embedding.weight
        views = [(self.user_embedding.weight, self.id_mlp(ids))]
        for name, feature in self.features.items():
            user_h = self.modality_user[name].get_parameter("weight")
            views.append((user_h, self.modality_mlp[name](feature)))
        hidden = [torch.cat([user_h, quadratic_mean(ids, item_h)]) for user_h, item_h in views]
        return F.normalize(torch.stack(hidden, dim=1), dim=-1)

    def propagate(self, norm_adj: Tensor, start: Tensor) -> Tensor:
        """Return the sum of layers (N, V, d), each weighed by its cosine with layer 0.

        Args:
            norm_adj: (N, N) sparse CSR, symmetric.
            start: (N, V, d) layer 0.
        """
        total = hidden = start
        for _ in range(self.n_layers):
            hidden = spmm(norm_adj, hidden.flatten(1), norm_adj).view_as(start)
            hidden = F.cosine_similarity(hidden, start, dim=-1).unsqueeze(-1) * hidden
            total = total + hidden
        return total

    def forward(self, norm_adj: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return user (U, V d) and item (I, V d) embeddings, by default over all training edges."""
        views = self.propagate(self.norm_adj if norm_adj is None else norm_adj, self.start())
        if self.detach_id:
            views = torch.cat([views[:, :1].detach(), views[:, 1:]], dim=1)
        user_h, item_h = views.flatten(1).split([self.n_users, self.n_items])  # late fusion
        item_out = item_h
        for _ in range(self.n_item_layers):
            item_out = self.item_graph(item_out)
        return user_h + self.user_graph(user_h), item_h + item_out

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR in bits of the weighed views, and L2, a scalar averaged over B.

        Adaptive optimisation: a view that separates a pair well already weighs less.
        """
        user, pos, neg = (interaction[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        if self._sampled is None:
            self.begin_epoch()
        user_emb, item_emb = self(self._sampled)
        user_e = rows(user_emb, user)
        pos_score, neg_score = (
            (user_e * rows(item_emb, item)).unflatten(1, (-1, self.dim)).sum(-1)  # (B, V)
            for item in (pos, neg)
        )
        weight = 1.0 - F.softmax(pos_score - neg_score, dim=-1).detach()  # (B, V)
        loss = bpr_loss((weight * pos_score).sum(-1), (weight * neg_score).sum(-1)) / log(2)
        for table in self.modality_user.values():
            loss = loss + self.reg_weight * mean_square(table(user))
        return loss


def quadratic_mean(first: Tensor, second: Tensor) -> Tensor:
    """Return sqrt((a^2 + b^2) / 2) of two tables; 1e-8 keeps the gradient at 0 finite."""
    return ((first.square() + second.square()) / 2 + 1e-8).sqrt()


def mlp(width: int, dim: int) -> nn.Module:
    """Return a network (..., width) -> (..., dim) with an inner layer of 4 ``dim``."""
    return nn.Sequential(nn.Linear(width, 4 * dim), nn.LeakyReLU(), nn.Linear(4 * dim, dim))
