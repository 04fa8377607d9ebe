"""RLMRec: LightGCN whose embeddings share information with language-model profiles.

Reference: X. Ren et al., "Representation Learning with Large Language Models for Recommendation",
WWW 2024, arXiv:2310.15950. RLMRecCon aligns embeddings with profiles by a contrast, RLMRecGen
rebuilds profiles from masked nodes; both over LightGCN, as the public code's ``lightgcn_plus`` and
``lightgcn_gene``. ``user_profile`` is a folder that ``recbole_llm reason`` wrote; items' profiles
are the features of the dataset's modalities, from the same encoder, such as the folder's
``item_mm_feat.npy``.
Departs from the public code: linear maps have zero bias at first unless ``initialization:
torch_bias``; without written profiles a user's is the mean of the features of their training items.
"""

import torch
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.graph.pattern import EdgePattern
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.content import side_by_side, user_profiles
from recbole_llm.model.initialization import initialize
from recbole_llm.model.loss import bpr_loss, info_nce
from recbole_llm.model.modality_graph import FrozenFeatures
from recbole_llm.model.propagation import propagate_mean, rows, training_adjacency
from recbole_llm.settings.group import Settings
from recbole_llm.settings.run import TRAINING
from recbole_llm.settings.values import Choice, Float, Int

_SHARED = TRAINING | Settings(
    embedding_size=Int(1),
    n_layers=Int(0),
    edge_dropout=Float(0, below=1),
    reg_weight=Float(0),
    user_profile=Choice("mean", other="folder"),
    temperature=Float(above=0),
    initialization=Choice("xavier", "torch_bias"),
)


class _ProfiledLightGCN(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width. F: profiles'.

    Config keys: ``embedding_size`` (d), ``n_layers``, ``edge_dropout``, ``reg_weight``,
    ``user_profile``, ``temperature`` (tau), ``initialization``.
    """

    input_type = InputType.PAIRWISE
    user_profile: Tensor  # (U, F) frozen
    item_profile: Tensor  # (I, F) frozen
    norm_adj: Tensor  # sparse (N, N), D^-1/2 A D^-1/2, training edges only

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, self.n_layers = config["embedding_size"], config["n_layers"]
        self.edge_dropout, self.reg_weight = config["edge_dropout"], config["reg_weight"]
        self.temperature = config["temperature"]
        self.user_embedding = nn.Embedding(self.n_users, dim)
        self.item_embedding = nn.Embedding(self.n_items, dim)
        items = side_by_side(FrozenFeatures(type(self).__name__, dataset))
        users = user_profiles(config, dataset, items)
        if users.size(1) != items.size(1):
            raise ValueError(
                f"user_profile: the profiles in {config['user_profile']} have {users.size(1)} "
                f"columns, the items' features {items.size(1)}. Both must come from one encoder: "
                f"name its item features in `modalities`, and no others."
            )
        self.register_buffer("user_profile", users, persistent=False)
        self.register_buffer("item_profile", items, persistent=False)
        norm_adj = training_adjacency(dataset)
        self.register_buffer("norm_adj", norm_adj, persistent=False)
        row, col = norm_adj.to_sparse_coo().indices()
        self.edges = EdgePattern(row, col, (len(norm_adj), len(norm_adj)))

    def hidden(self) -> Tensor:
        """Return the id embeddings of all nodes (N, d), layer 0."""
        return torch.cat([self.user_embedding.weight, self.item_embedding.weight])

    def propagate(self, hidden: Tensor) -> Tensor:
        """Return the sum of layers 0..L (N, d), over a random part of the graph in training."""
        graph = transpose = self.norm_adj
        if self.training and self.edge_dropout:
            graph, transpose = self.sampled_graph()
        return (self.n_layers + 1) * propagate_mean(graph, hidden, self.n_layers, transpose)

    def sampled_graph(self) -> tuple[Tensor, Tensor]:
        """Draw entries of the adjacency, each direction of an edge on its own; and transpose."""
        weight = self.norm_adj.values()
        weight = weight * (torch.rand_like(weight) >= self.edge_dropout)
        return self.edges.matrix(weight), self.edges.transpose(weight)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return user (U, d) and item (I, d) embeddings."""
        out = self.propagate(self.hidden())
        return out[: self.n_users], out[self.n_users :]

    def ranking_loss(self, user_e: Tensor, pos_e: Tensor, neg_e: Tensor) -> Tensor:
        """Return BPR, averaged over B, plus L2 of all weights of the model, a scalar."""
        loss = bpr_loss((user_e * pos_e).sum(-1), (user_e * neg_e).sum(-1))
        squares = torch.stack([weight.square().sum() for weight in self.parameters()])
        return loss + self.reg_weight * squares.sum()


class RLMRecCon(_ProfiledLightGCN):
    """Contrastive alignment (the paper's section 3.4.1).

    Config keys besides the shared ones: ``cl_weight``.
    """

    splits_batches = False  # its loss is taken over the whole batch

    settings = _SHARED | Settings(cl_weight=Float(0))

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        self.cl_weight = config["cl_weight"]
        self.mlp = mlp(self.item_profile.size(1), config["embedding_size"])
        initialize(self, config["initialization"])

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR, L2 and the contrasts of users, positives and negatives with profiles."""
        user, pos, neg = (interaction[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        user_emb, item_emb = self()
        user_e, pos_e, neg_e = rows(user_emb, user), rows(item_emb, pos), rows(item_emb, neg)
        profiles = self.mlp(self.user_profile)  # (U, d): all users are candidates
        contrast = info_nce(user_e, rows(profiles, user), profiles[1:], self.temperature)
        for item, item_e in ((pos, pos_e), (neg, neg_e)):
            profile = self.mlp(rows(self.item_profile, item))  # (B, d)
            contrast = contrast + info_nce(item_e, profile, profile, self.temperature)
        return self.ranking_loss(user_e, pos_e, neg_e) + self.cl_weight * contrast


class RLMRecGen(_ProfiledLightGCN):
    """Generative alignment (the paper's section 3.4.2).

    Config keys besides the shared ones: ``mask_ratio``, ``recon_weight``.
    """

    settings = _SHARED | Settings(mask_ratio=Float(above=0, below=1), recon_weight=Float(0))

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        self.mask_ratio, self.recon_weight = config["mask_ratio"], config["recon_weight"]
        self.mlp = mlp(config["embedding_size"], self.item_profile.size(1))
        self.mask_token = nn.Parameter(torch.zeros(1, config["embedding_size"]))
        initialize(self, config["initialization"])

    def masked_nodes(self) -> Tensor:
        """Draw the nodes (n,) whose ids are hidden, users and then items, none of them padding."""
        n_real = self.n_users + self.n_items - 2
        n_masked = max(int(n_real * self.mask_ratio), 1)
        node = torch.randperm(n_real, device=self.mask_token.device)[:n_masked].sort().values + 1
        return node + (node >= self.n_users)  # item ids begin behind their padding

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR, L2 and the contrast of masked nodes with their profiles, a scalar."""
        user, pos, neg = (interaction[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        node = self.masked_nodes()
        token = self.mask_token.expand(len(node), -1)
        out = self.propagate(self.hidden().index_copy(0, node, token))
        user_emb, item_emb = out[: self.n_users], out[self.n_users :]
        loss = self.ranking_loss(rows(user_emb, user), rows(item_emb, pos), rows(item_emb, neg))
        is_user = node < self.n_users
        users, items = node[is_user], node[~is_user] - self.n_users
        profile = torch.cat([self.user_profile[users], self.item_profile[items]])  # (n, F)
        rebuilt = self.mlp(rows(out, node))
        return loss + self.recon_weight * info_nce(rebuilt, profile, profile, self.temperature)


def mlp(n_in: int, n_out: int) -> nn.Module:
    """Return a network (..., n_in) -> (..., n_out) with an inner layer of their mean width."""
    inner = (n_in + n_out) // 2
    return nn.Sequential(nn.Linear(n_in, inner), nn.LeakyReLU(), nn.Linear(inner, n_out))
