"""MLLMRec: language-model profiles of users against items of a refined item-item graph.

Reference: Y. Dang et al., "MLLMRec: A Preference Reasoning Paradigm with Graph Refinement for
Multimodal Recommendation" (equation numbers below).
The propagation of eq. 11 and 12 is over the encoder's frozen features, before any trained weight,
so it is done once. The paper encodes one description an item; features of several modalities are
set side by side, each row at unit length so that none outweighs the others. ``user_profile:
random`` (w/o RS) trains one vector a user in place of H_U; the paper says only that the user
representations are then randomly initialised. ``use_gcn_ui`` follows the lines that the authors'
code keeps for it, as the paper has no equation: the sum of the layers over rows of length 1, added
to H_U and H_I. Their linear layers start as torch's do, which ``initialization`` offers.
"""

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.graph.sparse import spmm
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.content import side_by_side, user_profiles
from recbole_llm.model.initialization import initialize
from recbole_llm.model.loss import bpr_loss
from recbole_llm.model.modality_graph import FrozenFeatures, refined_item_adj
from recbole_llm.model.propagation import propagate_mean, rows, training_adjacency
from recbole_llm.settings.group import Settings
from recbole_llm.settings.run import TRAINING
from recbole_llm.settings.values import Bool, Choice, Float, Int


class MLLMRec(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width. F: features.

    Config keys: ``embedding_size`` (d), ``hidden_size`` (d_1), ``n_item_layers`` (L),
    ``semantic_k`` (K_s), ``similarity_threshold`` (alpha), ``cooccurrence_k`` (K_c),
    ``user_profile``, and the switches ``use_denoising`` ``use_enhancement`` ``use_gcn_ii``
    (Table 3) and ``use_gcn_ui`` with ``n_layers`` (Table 2), ``initialization``.
    """

    settings = TRAINING | Settings(
        embedding_size=Int(1),
        hidden_size=Int(1),
        n_item_layers=Int(0),
        semantic_k=Int(1),
        similarity_threshold=Float(),
        cooccurrence_k=Int(1),
        user_profile=Choice("mean", "random", other="folder"),
        use_denoising=Bool(),
        use_enhancement=Bool(),
        use_gcn_ii=Bool(),
        use_gcn_ui=Bool(),
        n_layers=Int(1),
        initialization=Choice("xavier", "torch"),
    )

    input_type = InputType.PAIRWISE
    item_feature: Tensor  # (I, F) E_I*, eq. 12, frozen
    user_feature: Tensor  # (U, F) E_U, eq. 13, frozen
    norm_adj: Tensor  # sparse (N, N), D^-1/2 A D^-1/2, training edges only
    content: Tensor  # (I, F) E_I, of which ``user_profile: mean`` takes the mean

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, hidden = config["embedding_size"], config["hidden_size"]
        feature = side_by_side(FrozenFeatures("MLLMRec", dataset))  # (I, F) E_I
        propagated = propagate_sum(refined_graph(config, dataset, feature), feature, config)
        self.register_buffer("item_feature", propagated, persistent=False)
        self.n_layers = config["n_layers"] * config["use_gcn_ui"]
        # an item bias b_2 adds the same to all of a user's scores, unless rows are normalised after
        self.item_mlp = projection(feature.size(1), hidden, dim, bias=self.n_layers > 0)
        self.register_buffer("content", feature, persistent=False)
        self.profile_kind = config["user_profile"]
        self.is_random = self.profile_kind == "random"
        if self.is_random:
            self.user_embedding = nn.Embedding(self.n_users, dim)
        else:
            profile = user_profiles(config, dataset, feature)
            self.register_buffer("user_feature", profile, persistent=False)
            self.user_mlp = projection(profile.size(1), hidden, dim)
        if self.n_layers:
            self.register_buffer("norm_adj", training_adjacency(dataset), persistent=False)
        initialize(self, config["initialization"])

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return user (U, d) and item (I, d) embeddings H_U and H_I (eq. 14)."""
        users = torch.arange(self.n_users, device=self.item_feature.device)
        user_emb, item_emb = self.users(users), self.item_mlp(self.item_feature)
        if self.n_layers:  # w/ GCN_UI
            hidden = torch.cat([user_emb, item_emb])  # (N, d)
            unit = F.normalize(hidden, dim=-1)
            n_summed = self.n_layers + 1
            out = hidden + n_summed * propagate_mean(self.norm_adj, unit, self.n_layers)
            user_emb, item_emb = out[: self.n_users], out[self.n_users :]
        return user_emb, item_emb

    def users(self, user: Tensor) -> Tensor:
        """Return H_U of some users, (B, d)."""
        if self.is_random:
            return self.user_embedding(user)
        return self.user_mlp(rows(self.user_feature, user))

    @torch.no_grad()
    def history_scores(self, items: Tensor, lengths: Tensor) -> Tensor | None:
        """Return the scores (B, I) of new users by the mean of their items' features.

        None for other profiles, and with GCN_UI, which has no node for a new user.

        Args:
            items: (B, S) int64, zeros behind them.
            lengths: (B,) int64, at least 1.
        """
        if self.profile_kind != "mean" or self.n_layers:
            return None
        total = F.embedding(items, self.content).sum(dim=1)  # (B, F); row 0, padding, is zero
        return self.user_mlp(total / lengths.unsqueeze(1)) @ self.embeddings()[1].T

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR, a scalar averaged over B (eq. 15; the paper sums, the authors average)."""
        user, pos, neg = (interaction[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        if self.n_layers:
            user_emb, item_emb = self()
            user_e, pos_e, neg_e = rows(user_emb, user), rows(item_emb, pos), rows(item_emb, neg)
        else:  # only the batch's rows are projected
            user_e = self.users(user)
            pos_e, neg_e = self.item_mlp(self.item_feature[torch.cat([pos, neg])]).chunk(2)
        return bpr_loss((user_e * pos_e).sum(-1), (user_e * neg_e).sum(-1))


def refined_graph(config: Config, dataset: MultimodalDataset, feature: Tensor) -> Tensor | None:
    """Return the refined item-item graph (I, I) that the switches leave, or None (eq. 7 to 11).

    Args:
        config: settings, of which the three of the graph and three switches are read.
        dataset: training part.
        feature: (I, F) item features E_I.

    Raises:
        ValueError: a number of neighbours is out of range, or ``feature`` holds NaN or infinity.
    """
    k, alpha, k_c = (config[x] for x in ("semantic_k", "similarity_threshold", "cooccurrence_k"))
    threshold = alpha if config["use_denoising"] else None
    audience = k_c if config["use_enhancement"] else None
    if not config["use_gcn_ii"]:
        return None
    return refined_item_adj(dataset, feature, k, threshold, audience)


def propagate_sum(graph: Tensor | None, feature: Tensor, config: Config) -> Tensor:
    """Return the sum of layers 0..L over the item-item graph, (I, F) (eq. 11, 12).

    Args:
        graph: (I, I) sparse CSR; None leaves layer 0 alone.
        feature: (I, F) item features E_I, layer 0.
        config: settings, of which ``n_item_layers`` (L) is read.
    """
    total = hidden = feature
    if graph is None:
        return total
    for _ in range(config["n_item_layers"]):
        hidden = spmm(graph, hidden)
        total = total + hidden
    return total


def projection(n_features: int, hidden: int, dim: int, bias: bool = True) -> nn.Module:
    """Return the MLP of eq. 14.

    Args:
        n_features: width F of the input.
        hidden: inner width d_1.
        dim: width d of the output.
        bias: whether the output layer has the bias b_2.
    """
    output = nn.Linear(hidden, dim, bias=bias)
    return nn.Sequential(nn.Linear(n_features, hidden), nn.LeakyReLU(), output)
