"""MGCN: content purified by behaviour, propagated in views of its own, and fused by preference.

Reference: P. Yu et al., "Multi-View Graph Convolutional Network for Multimedia Recommendation",
MM 2023, arXiv:2308.03588 (the paper's parts are named at the methods).
Of three or more modalities the shared part and every specific part are averaged, as the public code
does for two. Settings offer what that code does beyond the paper: it trains the item features, and
its linear layers start as torch's do.
"""

from typing import NamedTuple

import torch
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.graph.adjacency import norm_interactions
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.fusion import attention, fuse_by_preference, gate
from recbole_llm.model.initialization import initialize
from recbole_llm.model.loss import info_nce, ranking_loss
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
    training_adjacency,
    triplet_rows,
)
from recbole_llm.processes import WHOLE, Share
from recbole_llm.settings.group import Settings
from recbole_llm.settings.run import OVERALL, TRAINING
from recbole_llm.settings.values import Choice, Float, Int


class Views(NamedTuple):
    """Embeddings of all nodes, users first.

    Attributes:
        behaviour: (N, d) user-item view of the ids.
        content: (N, d) item-item views of all modalities, fused.
    """

    behaviour: Tensor
    content: Tensor

    @property
    def final(self) -> Tensor:
        """The embeddings (N, d) that items are ranked by."""
        return self.behaviour + self.content


class MGCN(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width.

    Config keys: ``embedding_size`` (d), ``n_layers`` (user-item), ``n_item_layers``, ``knn_k``,
    ``graph_refinement`` with its three keys (see ``item_graph_operator``),
    ``cl_weight`` (lambda_C), ``temperature`` (tau), ``reg_weight``, ``initialization``,
    ``train_features``.
    """

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
            cl_weight=Float(0),
            temperature=Float(above=0),
            reg_weight=Float(0),
            initialization=Choice("xavier", "torch"),
        )
    )

    input_type = InputType.PAIRWISE
    norm_adj: Tensor  # sparse (N, N), D^-1/2 A D^-1/2, training edges only

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, self.n_layers = config["embedding_size"], config["n_layers"]
        self.n_item_layers, self.reg_weight = config["n_item_layers"], config["reg_weight"]
        self.cl_weight, self.temperature = config["cl_weight"], config["temperature"]
        self.user_embedding = nn.Embedding(self.n_users, dim)
        self.item_embedding = nn.Embedding(self.n_items, dim)
        self.features = item_features("MGCN", config, dataset)
        self.project = self.features.linear(dim)
        self.purify = nn.ModuleDict({name: gate(dim) for name in self.features.names})
        self.prefer = nn.ModuleDict({name: gate(dim) for name in self.features.names})
        # one network for all modalities: it weighs what is common to them
        self.attention = attention(dim)
        initialize(self, config["initialization"])
        self.item_graphs = item_graph_operators(config, dataset, self.features, weighted=True)
        edges = dataset.inter_matrix(form="coo")
        block = norm_interactions(edges.row, edges.col, self.n_users, self.n_items)
        self.user_items = Operator(block)
        self.register_buffer("norm_adj", training_adjacency(dataset), persistent=False)

    def views(self) -> Views:
        """Return the behaviour view and the fused content view of all nodes."""
        hidden = torch.cat([self.user_embedding.weight, self.item_embedding.weight])  # (N, d)
        behaviour = propagate_mean(self.norm_adj, hidden, self.n_layers)  # (N, d)
        contents = {
            name: self.modality_view(name, feature) for name, feature in self.features.items()
        }
        return Views(behaviour, self.fuse(behaviour, contents))

    def modality_view(self, name: str, feature: Tensor) -> Tensor:
        """Return one modality's item-item view of all nodes, (N, d).

        The behaviour-guided purifier gates the items' id embeddings by content; users receive the
        propagated embeddings of their items.

        Args:
            name: name of the modality.
            feature: (I, F_m) features.
        """
        purified = self.purify[name](self.project[name](feature))  # (I, d) in (0, 1)
        item_h = self.item_embedding.weight * purified
        return content_view(item_h, self.n_item_layers, self.item_graphs[name], self.user_items)

    def fuse(self, behaviour: Tensor, contents: dict[str, Tensor]) -> Tensor:
        """Return the mean of what modalities share and of what each has alone, (N, d).

        The behaviour-aware fuser: attention over modalities gives the shared part, and preferences
        read from behaviour gate each modality's own part.

        Args:
            behaviour: (N, d).
            contents: (N, d) of each of the M modalities by name.
        """
        return fuse_by_preference(behaviour, contents, self.attention, self.prefer)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return user (U, d) and item (I, d) embeddings."""
        final = self.views().final
        return final[: self.n_users], final[self.n_users :]

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR, L2, and lambda_C times the self-supervised auxiliary task, a scalar.

        The auxiliary task contrasts the two views of the batch's users, and of its positive items.
        """
        return self.loss_share(interaction, WHOLE)

    def loss_share(self, batch: Interaction, share: Share) -> Tensor:
        """Return a process's share of the loss: its rows, contrasted with those of all."""
        user, pos, neg = (batch[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        own = share.rows(len(user))
        views = self.views()
        batch_rows = triplet_rows(views.final, self.n_users, user[own], pos[own], neg[own])
        loss = ranking_loss(*batch_rows, self.reg_weight)
        for node in (user, pos + self.n_users):
            anchor, candidates = rows(views.content, node[own]), rows(views.behaviour, node)
            contrast = info_nce(anchor, candidates[own], candidates, self.temperature)
            loss = loss + self.cl_weight * contrast
        return loss * (len(user[own]) / len(user))
