"""MMGCN: a graph network of its own for each modality, joined by the id embeddings.

Reference: Y. Wei et al., "MMGCN: Multi-modal Graph Convolution Network for Personalized
Recommendation of Micro-video", MM 2019 (equation numbers below).
Departs from both public codes: users' preferences and ids are trained, as the paper has them; there
they are plain tensors that no optimiser sees, which is part of their low scores. Scores are those
of the current weights, theirs those of the last training batch. L2 is of the batch's ids and of
every modality's preferences, theirs of the first modality's. Features wider than ``latent_size``
are mapped to it first, where the codes name the modality (the visual one, to 256). Aggregation and
combination are the variants of the codes: mean, and concatenation. Weights start Xavier-uniform.
"""

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.model.init import xavier_uniform_initialization
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.loss import bpr_loss, mean_square
from recbole_llm.model.modality_graph import FrozenFeatures
from recbole_llm.model.propagation import Operator, neighbour_mean, rows
from recbole_llm.settings.group import Settings
from recbole_llm.settings.run import TRAINING
from recbole_llm.settings.values import Float, Int


class MMGCN(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width. M: modalities.

    Config keys: ``embedding_size`` (d), ``latent_size``, ``n_layers``, ``reg_weight`` (lambda).
    """

    settings = TRAINING | Settings(
        embedding_size=Int(1), latent_size=Int(1), n_layers=Int(1), reg_weight=Float(0)
    )

    input_type = InputType.PAIRWISE

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, self.reg_weight = config["embedding_size"], config["reg_weight"]
        self.user_embedding = nn.Embedding(self.n_users, dim)
        self.item_embedding = nn.Embedding(self.n_items, dim)
        self.features = FrozenFeatures("MMGCN", dataset)
        self.networks = nn.ModuleDict(
            {
                name: ModalityNetwork(
                    feature.size(1), config["latent_size"], dim, config["n_layers"], self.n_users
                )
                for name, feature in self.features.items()
            }
        )
        self.neighbours = neighbour_mean(dataset)
        self.apply(xavier_uniform_initialization)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return user (U, d) and item (I, d) embeddings: the mean over modalities."""
        ids = torch.cat([self.user_embedding.weight, self.item_embedding.weight])  # (N, d)
        views = [
            self.networks[name](feature, ids, self.neighbours)
            for name, feature in self.features.items()
        ]
        out = torch.stack(views).mean(dim=0)
        return out[: self.n_users], out[self.n_users :]

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR plus lambda times mean squares, a scalar (eq. 9).

        L2 is a mean over numbers, as in the authors' code, so that their lambda fits.
        """
        user, pos, neg = (interaction[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        user_emb, item_emb = self()
        user_e, pos_e, neg_e = rows(user_emb, user), rows(item_emb, pos), rows(item_emb, neg)
        loss = bpr_loss((user_e * pos_e).sum(-1), (user_e * neg_e).sum(-1))
        reg_loss = mean_square(self.user_embedding(user))
        reg_loss = reg_loss + mean_square(self.item_embedding(torch.cat([pos, neg])))
        for name in self.features.names:
            preference = self.networks.get_parameter(f"{name}.preference.weight")
            reg_loss = reg_loss + mean_square(preference[1:])  # without padding
        return loss + self.reg_weight * reg_loss


class ModalityNetwork(nn.Module):
    """One modality's graph network: from features and preferences to embeddings of all nodes.

    Args:
        n_columns: width F_m of the features.
        latent_size: largest width of the first layer; wider features are mapped to it.
        dim: width d of the ids and of every later layer.
        n_layers: number of layers, >= 1.
        n_users: U, padding id 0 included.
    """

    def __init__(
        self, n_columns: int, latent_size: int, dim: int, n_layers: int, n_users: int
    ) -> None:
        super().__init__()
        width = min(n_columns, latent_size)
        self.reduce = nn.Identity() if n_columns <= latent_size else nn.Linear(n_columns, width)
        self.preference = nn.Embedding(n_users, width)
        widths = [width] + [dim] * (n_layers - 1)
        self.aggregate = nn.ModuleList([nn.Linear(w, w, bias=False) for w in widths])  # W_1
        self.combine = nn.ModuleList([nn.Linear(w, dim) for w in widths])  # W_2
        self.join = nn.ModuleList([nn.Linear(w + dim, dim) for w in widths])  # W_3

    def forward(self, feature: Tensor, ids: Tensor, neighbours: Operator) -> Tensor:
        """Return (N, d), users first.

        Args:
            feature: (I, F_m) frozen features.
            ids: (N, d) id embeddings.
            neighbours: mean over the neighbours (N, N).
        """
        hidden = torch.cat([self.preference.weight, self.reduce(feature)])
        hidden = F.normalize(hidden, dim=-1)
        for aggregate, combine, join in zip(self.aggregate, self.combine, self.join, strict=True):
            message = F.leaky_relu(neighbours(aggregate(hidden)))  # eq. 1, 2
            own = F.leaky_relu(combine(hidden)) + ids  # eq. 5
            hidden = F.leaky_relu(join(torch.cat([message, own], dim=-1)))  # eq. 6
        return hidden
