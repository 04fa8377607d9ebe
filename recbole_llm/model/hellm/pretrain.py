"""HeLLMPretrain: user-user and item-item hypergraphs around LightGCN, joined by contrast.

Reference: X. Guo et al., "HeLLM: Multi-Modal Hypergraph Enhanced LLM Learning for Recommendation",
arXiv:2504.10541 (equation numbers below). Stage 1 of HeLLM, and the row HeLLM_pretrain of Table II.
Ambiguities: eq. 7 sums over all users and items, and does not say whether a node's similarity to
itself is in the denominator; as written (u' in U) it is. The sum over anchors is estimated on the
batch's users and positive items, against all users and items in the denominators, and averaged, so
that alpha and beta do not depend on the size of the data. Eq. 12 regularises "Theta"; as in the
authors' code, that is the fused embeddings of the batch.
"""

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.model.init import xavier_uniform_initialization
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.graph.hypergraph import Hypergraph, i2i_hypergraph, u2u_hypergraph
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.loss import info_nce, ranking_loss
from recbole_llm.model.modality_graph import modality_names, nearest_items
from recbole_llm.model.propagation import propagate_mean, rows, training_adjacency
from recbole_llm.processes import WHOLE, Share
from recbole_llm.settings.group import Settings
from recbole_llm.settings.run import OVERALL, TRAINING
from recbole_llm.settings.values import Bool, Float, Int


class HeLLMPretrain(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width.

    Config keys: ``embedding_size`` (d), ``n_layers`` ``n_user_layers`` ``n_item_layers``,
    ``knn_k``, ``u2u_weight`` (alpha) ``i2i_weight`` (beta), ``temperature`` (tau),
    ``reg_weight`` (lambda), ``cl_anchors``, and the switches ``use_u2u`` ``use_i2i`` ``use_cl``
    (Table IV). The item hypergraph needs at least one modality.
    """

    settings = (
        TRAINING
        | OVERALL.pick("lr_schedule", "lr_decay", "lr_decay_epochs", "stopping_step")
        | Settings(
            embedding_size=Int(1),
            n_layers=Int(0),
            n_user_layers=Int(0),
            n_item_layers=Int(0),
            knn_k=Int(1),
            u2u_weight=Float(0),
            i2i_weight=Float(0),
            temperature=Float(above=0),
            reg_weight=Float(0),
            cl_anchors=Int(0),
            use_u2u=Bool(),
            use_i2i=Bool(),
            use_cl=Bool(),
            eval_step=Int(1),
        )
    )

    input_type = InputType.PAIRWISE
    norm_adj: Tensor  # sparse (N, N), D^-1/2 A D^-1/2, training edges only

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, self.n_layers = config["embedding_size"], config["n_layers"]
        self.n_user_layers, self.n_item_layers = config["n_user_layers"], config["n_item_layers"]
        self.cl_weights = (config["u2u_weight"], config["i2i_weight"])
        self.temperature, self.reg_weight = config["temperature"], config["reg_weight"]
        self.use_cl, self.cl_anchors = config["use_cl"], config["cl_anchors"]
        self.register_buffer("norm_adj", training_adjacency(dataset), persistent=False)
        self.user_embedding = nn.Embedding(self.n_users, dim)
        self.item_embedding = nn.Embedding(self.n_items, dim)
        self.u2u: Hypergraph | None = None
        if config["use_u2u"]:
            edges = dataset.inter_matrix(form="coo")
            self.u2u = u2u_hypergraph(edges.row, edges.col, self.n_users, self.n_items)
            self.user_level = nn.Embedding(self.n_users, dim)  # X_user^(0), eq. 2
        self.i2i: Hypergraph | None = None
        if config["use_i2i"]:
            knn = _neighbours(dataset, config["knn_k"])
            self.i2i = i2i_hypergraph(knn, self.n_items)
            self.item_level = nn.Embedding(self.n_items, dim)  # X_item^(0), eq. 5
        self.apply(xavier_uniform_initialization)

    def levels(self) -> tuple[Tensor | None, Tensor | None]:
        """Return user-level h_u (U, d), eq. 2, and item-level h_i (I, d), eq. 5; None if off."""
        user_h = item_h = None
        if self.u2u is not None:
            user_h = self.user_level.weight
            for _ in range(self.n_user_layers):
                user_h = self.u2u(user_h)
        if self.i2i is not None:
            item_h = self.item_level.weight
            for _ in range(self.n_item_layers):
                item_h = self.i2i(item_h)
        return user_h, item_h

    def fuse(self, user_h: Tensor | None, item_h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the fused user (U, d) and item (I, d) embeddings e~ (eq. 6).

        Args:
            user_h: (U, d) user-level embeddings; None leaves them out.
            item_h: (I, d) item-level embeddings; None leaves them out.
        """
        hidden = torch.cat([self.user_embedding.weight, self.item_embedding.weight])  # (N, d)
        out = propagate_mean(self.norm_adj, hidden, self.n_layers)
        user_emb, item_emb = out[: self.n_users], out[self.n_users :]
        if user_h is not None:
            user_emb = user_emb + F.normalize(user_h, dim=-1)
        if item_h is not None:
            item_emb = item_emb + F.normalize(item_h, dim=-1)
        return user_emb, item_emb

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the fused user (U, d) and item (I, d) embeddings (eq. 6)."""
        return self.fuse(*self.levels())

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR + alpha L_U2U + beta L_I2I + lambda L2, a scalar averaged over B (eq. 12)."""
        return self.loss_share(interaction, WHOLE)

    def loss_share(self, batch: Interaction, share: Share) -> Tensor:
        """Return a process's share of the loss: its rows, and its part of the batch's anchors."""
        user, pos, neg = (batch[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        own = share.rows(len(user))
        levels = self.levels()
        fused = self.fuse(*levels)
        user_e, pos_e = rows(fused[0], user[own]), rows(fused[1], pos[own])
        neg_e = rows(fused[1], neg[own])
        loss = ranking_loss(user_e, pos_e, neg_e, self.reg_weight) * (len(user_e) / len(user))
        if self.use_cl:
            for weight, anchors, level, emb in zip(
                self.cl_weights, (user, pos), levels, fused, strict=True
            ):
                if level is not None and weight:
                    loss = loss + weight * self.contrast(anchors, level, emb, share)
        return loss

    def contrast(self, anchors: Tensor, level: Tensor, emb: Tensor, share: Share = WHOLE) -> Tensor:
        """Return the contrastive loss of some nodes, averaged over them (eq. 7).

        Args:
            anchors: (B,) int64 ids, repeats allowed.
            level: (V, d) user- or item-level embeddings h.
            emb: (V, d) fused embeddings e~; row 0 of both is padding and left out of the
                candidates.
            share: process whose share of the average is returned; each takes some of the nodes.
        """
        anchors = anchors.unique()
        if self.cl_anchors and len(anchors) > self.cl_anchors:
            pick = torch.randperm(len(anchors), device=anchors.device)[: self.cl_anchors]
            anchors = anchors[pick]
        own = anchors[share.rows(len(anchors))]
        if not len(own):  # fewer nodes than processes
            return emb.new_zeros(())
        candidates = torch.cat([level[1:], emb[1:]])  # (2V - 2, d)
        loss = info_nce(rows(emb, own), rows(level, own), candidates, self.temperature)
        return loss * (len(own) / len(anchors))


def _neighbours(dataset: MultimodalDataset, k: int) -> list[Tensor]:
    """Return each modality's top-k edges (2, E), an item counting as its own neighbour (eq. 4)."""
    names = modality_names("HeLLM's item hypergraph", dataset, "set --use_i2i=false")
    return [nearest_items(dataset, dataset.modality(name), k).edge_index for name in names]
