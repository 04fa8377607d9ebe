"""SRGFormer: LightGCN refined by a graph transformer and by learned hypergraphs.

Reference: K. Shi et al., "Structurally Refined Graph Transformer for Multimodal Recommendation",
arXiv:2511.00584 (the paper's sections are named at the lines). What the paper leaves open is taken
from the authors' public code: user features as means of item features, attention over the edges of
the user-item graph with logits clamped to [-10, 10] and not scaled, contrastive losses summed over
the batch.
Departs from that code where it departs from the paper: every modality has its own user memberships
(there, one modality's overwrite the other's), and evaluation is without Gumbel noise and dropout.
With more than two modalities every pair is contrasted; with one there is nothing to contrast.
The code feeds the graph transformer the id embeddings, not what LightGCN makes of them;
``attention_input`` has both.
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
from recbole_llm.graph.pattern import EdgePattern
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
from recbole_llm.settings.values import Bool, Choice, Float, Int


class Views(NamedTuple):
    """Embeddings of all nodes, users first.

    Attributes:
        final: (N, d) fusion of all embeddings, which items are ranked by.
        modality: one (N, d) embedding a modality, of its features over the user-item graph.
        hyper: one (N, d) embedding a modality, through its hyperedges, in factored form; empty
            without the local structure.
    """

    final: Tensor
    modality: list[Tensor]
    hyper: list[Factored]


class SRGFormer(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width.

    Config keys: ``embedding_size`` (d), ``n_layers`` ``n_modality_layers`` ``n_hyper_layers``,
    ``n_heads``, ``n_hyperedges``, ``hyper_dropout``, ``global_weight`` (alpha), ``local_weight``
    (beta), ``attention_input``, ``hyper_cl_weight``, ``modality_cl_weight`` (gamma),
    ``reg_weight``, ``temperature``,
    and the switches ``use_global`` ``use_local`` ``use_hyper_cl`` ``use_modality_cl``.
    """

    settings = (
        TRAINING
        | HYPEREDGES
        | Settings(
            embedding_size=Int(1),
            n_layers=Int(0),
            n_modality_layers=Int(0),
            n_heads=Int(1),
            global_weight=Float(0),
            local_weight=Float(0),
            attention_input=Choice("propagated", "ids"),
            hyper_cl_weight=Float(0),
            modality_cl_weight=Float(0),
            reg_weight=Float(0),
            use_global=Bool(),
            use_local=Bool(),
            use_hyper_cl=Bool(),
            use_modality_cl=Bool(),
        )
    )

    input_type = InputType.PAIRWISE
    norm_adj: Tensor  # sparse (N, N), D^-1/2 A D^-1/2, training edges only

    @classmethod
    def check_settings(cls, config: Config) -> None:
        """Check what the graph transformer needs.

        Raises:
            ValueError: ``embedding_size`` is not divisible by ``n_heads``.
        """
        if config["use_global"]:
            _check_heads(config["embedding_size"], config["n_heads"])

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, self.n_layers = config["embedding_size"], config["n_layers"]
        self.global_weight, self.local_weight = config["global_weight"], config["local_weight"]
        self.hyper_cl_weight = config["hyper_cl_weight"] if config["use_hyper_cl"] else 0.0
        self.modality_cl_weight = config["modality_cl_weight"] if config["use_modality_cl"] else 0.0
        self.reg_weight, self.temperature = config["reg_weight"], config["temperature"]
        self.attention_input = config["attention_input"]
        self.user_embedding = nn.Embedding(self.n_users, dim)
        self.item_embedding = nn.Embedding(self.n_items, dim)
        self.features = FrozenFeatures("SRGFormer", dataset)
        self.project = self.features.linear(dim, bias=False)  # W_m
        self.modality_part = ModalityPropagation(dataset, config["n_modality_layers"])
        self.register_buffer("norm_adj", training_adjacency(dataset), persistent=False)
        self.attention: EdgeAttention | None = None
        if config["use_global"]:
            self.attention = EdgeAttention(self.norm_adj, dim, config["n_heads"])
        self.apply(xavier_uniform_initialization)
        self.hyperedges: nn.ModuleDict | None = None
        if config["use_local"]:
            self.interactions = interaction_operator(dataset)
            self.hyperedges = learned_hyperedges(config, self.features)

    def views(self) -> Views:
        """Return the fused embeddings of all nodes, and those that are contrasted."""
        hidden = torch.cat([self.user_embedding.weight, self.item_embedding.weight])  # (N, d)
        collaborative = propagate_mean(self.norm_adj, hidden, self.n_layers)  # (N, d)
        modality = [
            self.modality_part(self.project[name](feature), self.norm_adj)  # (N, d)
            for name, feature in self.features.items()
        ]
        final: Tensor = collaborative
        for view in modality:
            final = final + F.normalize(view, dim=-1)
        # E_str of eq. 15: alpha times the global and beta times the local structure
        if self.attention is not None:
            attended = self.attention(  # (N, d) III.C.2
                hidden if self.attention_input == "ids" else collaborative
            )
            final = final + self.global_weight * F.normalize(attended, dim=-1)
        hyper: list[Factored] = []
        if self.hyperedges is not None:
            item_emb = collaborative[self.n_users :]  # (I, d)
            hyper = hyperedge_views(self.hyperedges, self.features, self.interactions, item_emb)
            local = torch.stack([view.dense() for view in hyper]).sum(dim=0)  # (N, d) III.C.1
            final = final + self.local_weight * F.normalize(local, dim=-1)
        return Views(final, modality, hyper)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return user (U, d) and item (I, d) embeddings."""
        final = self.views().final
        return final[: self.n_users], final[self.n_users :]

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR, L2 and the two contrasts between modalities, a scalar."""
        return self.loss_share(interaction, WHOLE)

    def loss_share(self, batch: Interaction, share: Share) -> Tensor:
        """Return a process's share of the loss, in which the contrasts are sums over rows."""
        own = batch[share.rows(len(batch))]
        user, pos, neg = (own[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        views = self.views()
        batch_rows = triplet_rows(views.final, self.n_users, user, pos, neg)
        loss = ranking_loss(*batch_rows, self.reg_weight) * (len(own) / len(batch))
        for weight, contrasted in (
            (self.hyper_cl_weight, views.hyper),  # section III.C.1
            (self.modality_cl_weight, views.modality),  # gamma L_MCL, section III.B
        ):
            if weight:
                contrast = cross_modal_loss(contrasted, user, pos, self.n_users, self.temperature)
                loss = loss + weight * contrast
        return loss


class EdgeAttention(nn.Module):
    """Multi-head attention of each node over its neighbours: no feed-forward, no output map.

    Section III.C.2 of the paper.

    Args:
        norm_adj: sparse (N, N) whose edges are attended over, row to column.
        dim: width d, divisible by ``n_heads``.
        n_heads: number of heads, >= 1.

    Raises:
        ValueError: ``dim`` is not divisible by ``n_heads``.
    """

    clamp = 10.0  # bound of the logits, as in the authors' code

    def __init__(self, norm_adj: Tensor, dim: int, n_heads: int) -> None:
        super().__init__()
        _check_heads(dim, n_heads)
        self.n_heads = n_heads
        row, col = norm_adj.to_sparse_coo().indices()
        self.edges = EdgePattern(row, col, (norm_adj.size(0), norm_adj.size(1)))
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (N, d) from (N, d); a node without edges gets zeros. Time O(E d + N d^2)."""
        # Projected once a node and not once an edge; products at the edges make no (E, d) tensor.
        query, key, value = (
            layer(hidden).chunk(self.n_heads, dim=-1)
            for layer in (self.query, self.key, self.value)
        )  # n_heads times (N, d / n_heads) each
        logits = [self.edges.dot(q, k) for q, k in zip(query, key, strict=True)]
        logit = torch.stack(logits, dim=-1).clamp(-self.clamp, self.clamp)  # (E, n_heads)
        weight = self.edges.softmax(logit)  # (E, n_heads)
        heads = [self.edges.matmul(w, v) for w, v in zip(weight.unbind(-1), value, strict=True)]
        return torch.cat(heads, dim=-1)


def _check_heads(dim: int, n_heads: int) -> None:
    if n_heads < 1 or dim % n_heads:
        raise ValueError(f"embedding_size must be divisible by n_heads, got {dim} and {n_heads}.")
