"""Users' preferences in each modality, propagated with the content of items.

Q. Wang et al., "DualGNN", TMM 2021, section "Multi-modal Representation Learning"; DRAGON takes it
over.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.model.loss import mean_square
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
