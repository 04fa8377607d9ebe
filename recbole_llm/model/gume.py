"""GUME: a user-item graph with links between alike items, and a modality side of users.

Reference: G. Lin et al., "GUME: Graphs and User Modalities Enhancement for Long-Tail Multimodal
Recommendation", CIKM 2024, arXiv:2407.12338 (the paper's parts are named at the methods).
Departs from the public code: item features are frozen unless ``train_features``; linear maps start
from Xavier with zero bias unless ``initialization: torch``; a user whom a batch names twice gets
noise of its own each time. Of three or more modalities links join items that are neighbours in all
of them, and every pair's distributions are aligned; with a single one nothing is aligned.
"""

from itertools import combinations
from typing import NamedTuple

import torch
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.graph.adjacency import linked_norm_adj, user_item_block
from recbole_llm.graph.sparse import shared_edges
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.fusion import attention, fuse_by_preference, gate
from recbole_llm.model.initialization import initialize
from recbole_llm.model.loss import info_nce, l2_loss, moment_distance, noise_contrast, ranking_loss
from recbole_llm.model.modality_graph import (
    REFINEMENT,
    TRAINED_FEATURES,
    content_view,
    item_features,
    item_graph_operators,
)
from recbole_llm.model.propagation import (
    Operator,
    propagate_mean,
    rows,
    triplet_rows,
    without_padding,
)
from recbole_llm.settings.group import Settings
from recbole_llm.settings.run import OVERALL, TRAINING
from recbole_llm.settings.values import Choice, Float, Int


class Views(NamedTuple):
    """Embeddings (N, d) of all nodes, users first.

    Attributes:
        behaviour: extended id embeddings.
        content: explicit modalities, integrated.
        extended: extended modality embeddings, averaged over modalities; for the loss only.
        explicit: explicit embeddings of each modality.
    """

    behaviour: Tensor
    content: Tensor
    extended: Tensor
    explicit: list[Tensor]

    @property
    def final(self) -> Tensor:
        """The embeddings (N, d) that items are ranked by."""
        return self.behaviour + self.content


class GUME(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width.

    Config keys: ``embedding_size`` (d), ``n_layers`` (user-item), ``n_item_layers``, ``knn_k``,
    ``graph_refinement`` with its three keys (see ``item_graph_operator``; links then join items
    that are neighbours in all refined graphs), ``reg_weight``, ``modality_reg_weight``,
    ``align_weight``, ``cl_weight``, ``temperature``, ``user_cl_weight``, ``user_temperature``,
    ``noise``, ``train_features``, ``initialization``.
    """

    splits_batches = False  # its loss is taken over the whole batch

    settings = (
        TRAINING
        | REFINEMENT
        | TRAINED_FEATURES
        | OVERALL.pick("lr_schedule")
        | Settings(
            embedding_size=Int(1),
            n_layers=Int(0),
            n_item_layers=Int(0),
            knn_k=Int(1),
            reg_weight=Float(0),
            modality_reg_weight=Float(0),
            align_weight=Float(0),
            cl_weight=Float(0),
            temperature=Float(above=0),
            user_cl_weight=Float(0),
            user_temperature=Float(above=0),
            noise=Float(0),
            initialization=Choice("xavier", "torch"),
        )
    )

    input_type = InputType.PAIRWISE

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, self.n_layers = config["embedding_size"], config["n_layers"]
        self.n_item_layers, self.reg_weight = config["n_item_layers"], config["reg_weight"]
        self.modality_reg_weight = config["modality_reg_weight"]
        self.align_weight, self.noise = config["align_weight"], config["noise"]
        self.cl_weight, self.temperature = config["cl_weight"], config["temperature"]
        self.user_cl_weight = config["user_cl_weight"]
        self.user_temperature = config["user_temperature"]
        self.features = item_features("GUME", config, dataset)
        names = self.features.names
        self.user_embedding = nn.Embedding(self.n_users, dim)
        self.item_embedding = nn.Embedding(self.n_items, dim)
        self.modality_user = nn.ModuleDict({n: nn.Embedding(self.n_users, dim) for n in names})
        self.project = self.features.linear(dim)
        self.purify = nn.ModuleDict({name: gate(dim) for name in names})
        self.attention = attention(dim)
        self.prefer = nn.ModuleDict({name: gate(dim) for name in names})
        initialize(self, config["initialization"])
        self.item_graphs = item_graph_operators(config, dataset, self.features, weighted=True)
        links = shared_edges([graph.get_buffer("matrix") for graph in self.item_graphs.values()])
        edges = dataset.inter_matrix(form="coo")
        norm_adj = linked_norm_adj(edges.row, edges.col, links, self.n_users, self.n_items)
        self.graph = Operator(norm_adj)
        self.user_items = Operator(user_item_block(norm_adj, self.n_users))

    def views(self) -> Views:
        """Return the embeddings of all nodes that scores and losses are made of."""
        behaviour = self.propagate(self.user_embedding.weight, self.item_embedding.weight)
        explicit, extended = {}, []
        for name, feature in self.features.items():
            gated = self.item_embedding.weight * self.purify[name](self.project[name](feature))
            graph = self.item_graphs[name]
            explicit[name] = content_view(gated, self.n_item_layers, graph, self.user_items)
            user_h = self.modality_user[name].get_parameter("weight")
            extended.append(self.propagate(user_h, explicit[name][self.n_users :]))
        content = fuse_by_preference(behaviour, explicit, self.attention, self.prefer)
        mean = torch.stack(extended).mean(dim=0)  # (M, N, d) -> (N, d)
        return Views(behaviour, content, mean, list(explicit.values()))

    def propagate(self, user_h: Tensor, item_h: Tensor) -> Tensor:
        """Return the mean of layers over the user-item graph with links between items, (N, d)."""
        graph, hidden = self.graph, torch.cat([user_h, item_h])
        return propagate_mean(graph.matrix, hidden, self.n_layers, graph.transposed)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return user (U, d) and item (I, d) embeddings."""
        final = self.views().final
        return final[: self.n_users], final[self.n_users :]

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR, two L2 terms, the alignments and the users' augmentation, a scalar."""
        user, pos, neg = (interaction[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        views = self.views()
        batch_rows = triplet_rows(views.final, self.n_users, user, pos, neg)
        loss = ranking_loss(*batch_rows, self.reg_weight)
        pos = pos + self.n_users
        loss = loss + self.modality_reg_weight * l2_loss(rows(views.extended, pos))
        real = [without_padding(view, self.n_users) for view in views.explicit]
        for first, second in combinations(real, 2):
            loss = loss + self.align_weight * moment_distance(first, second)
        for node in (user, pos):
            content, behaviour = rows(views.content, node), rows(views.behaviour, node)  # (B, d)
            contrast = info_nce(content, behaviour, behaviour, self.temperature)
            loss = loss + self.cl_weight * contrast
        extended, content = rows(views.extended, user), rows(views.content, user)
        contrast = info_nce(extended, content, content, self.user_temperature)
        for view in (content, extended):
            contrast = contrast + noise_contrast(view, self.noise, self.user_temperature)
        return loss + self.user_cl_weight * contrast
