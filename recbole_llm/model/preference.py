"""Users' preferences in each modality, propagated with the content of items.

Q. Wang et al., "DualGNN", TMM 2021, section "Multi-modal Representation Learning"; DRAGON takes it
over.
"""

import math

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.loss import bpr_loss, mean_square
from recbole_llm.model.modality_graph import FrozenFeatures
from recbole_llm.model.propagation import propagate_mean, rows


class ModalityPreferences(nn.Module):
    """A table of users and a network of items for each modality, and their propagation.

    Args:
        features: features (I, F_m) of the M modalities.
        n_users: U, padding id 0 included.
        dim: width d.
    """

    def __init__(self, features: FrozenFeatures, n_users: int, dim: int) -> None:
        super().__init__()
        self.names = features.names
        self.user = nn.ModuleDict({name: nn.Embedding(n_users, dim) for name in self.names})
        self.item = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(feature.size(1), 4 * dim), nn.LeakyReLU(), nn.Linear(4 * dim, dim)
                )
                for name, feature in features.items()
            }
        )

    def forward(
        self, features: FrozenFeatures, norm_adj: Tensor, n_layers: int
    ) -> dict[str, Tensor]:
        """Return the sum (N, d) of layers 0..L of each modality by name, users first.

        Args:
            features: features of the same modalities.
            norm_adj: (N, N) sparse CSR, symmetric.
            n_layers: number L of layers, >= 0.
        """
        found = {}
        for name, feature in features.items():
            user_h = self.user.get_parameter(f"{name}.weight")
            hidden = F.normalize(torch.cat([user_h, self.item[name](feature)]), dim=-1)
            found[name] = propagate_mean(norm_adj, hidden, n_layers) * (n_layers + 1)
        return found

    def reg_loss(self, user: Tensor) -> Tensor:
        """Return the mean square of the rows of a batch of users (B,), summed over modalities."""
        squares = [mean_square(rows(table, user)) for table in self.user.parameters()]
        return torch.stack(squares).sum()


def modality_weight_table(n_users: int, n_modalities: int) -> nn.Embedding:
    """Return the trained weights (U, M) of the modalities for each user, equal at the start.

    DualGNN's and DRAGON's codes start from a softmax of numbers near zero, so nearly there. Later
    nothing keeps the weights positive or their sum at 1.
    """
    table = nn.Embedding(n_users, n_modalities)
    nn.init.constant_(table.weight, 1.0 / n_modalities)
    return table


class PreferenceRecommender(DotProductRecommender):
    """The loss of models whose users have a preference and a weight for each modality.

    Attributes:
        preferences: tables and networks of the modalities.
        modality_weight: table from ``modality_weight_table``.
        reg_weight: weight of L2.
    """

    input_type = InputType.PAIRWISE
    preferences: ModalityPreferences
    modality_weight: nn.Embedding
    reg_weight: float

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR in bits plus L2 of preferences and weights of modalities, a scalar.

        The authors' code takes the logarithm to base 2, and means over numbers in L2.
        """
        user, pos, neg = (interaction[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        user_emb, item_emb = self()
        user_e, pos_e, neg_e = rows(user_emb, user), rows(item_emb, pos), rows(item_emb, neg)
        loss = bpr_loss((user_e * pos_e).sum(-1), (user_e * neg_e).sum(-1)) / math.log(2)
        reg_loss = self.preferences.reg_loss(user)
        reg_loss = reg_loss + mean_square(self.modality_weight.weight[1:])  # without padding
        return loss + self.reg_weight * reg_loss
