"""VBPR: matrix factorisation with a second factor from item content.

Reference: R. He and J. McAuley, "VBPR: Visual Bayesian Personalized Ranking from Implicit
Feedback", AAAI 2016, arXiv:1510.01784 (equation numbers below).
Departs from the paper: features of several modalities enter eq. 4 side by side, each with an
embedding matrix E of its own, so their parts add up. The offset alpha and the user bias of eq. 4
are left out: they cancel in every ranking. L2 is taken on the batch's rows, E and beta' are free
of it, as in the widely used implementations.
"""

import torch
from recbole.data.interaction import Interaction
from recbole.model.init import xavier_uniform_initialization
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.loss import bpr_loss, l2_loss
from recbole_llm.model.modality_graph import FrozenFeatures
from recbole_llm.settings.group import Settings
from recbole_llm.settings.run import TRAINING
from recbole_llm.settings.values import Float, Int


class VBPR(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. B: batch. d: width. F_m: feature widths.

    Config keys: ``embedding_size`` (d, of either factor), ``reg_weight``.
    """

    settings = TRAINING | Settings(embedding_size=Int(1), reg_weight=Float(0))

    input_type = InputType.PAIRWISE

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, self.reg_weight = config["embedding_size"], config["reg_weight"]
        self.user_embedding = nn.Embedding(self.n_users, dim)  # gamma_u
        self.item_embedding = nn.Embedding(self.n_items, dim)  # gamma_i
        self.user_content = nn.Embedding(self.n_users, dim)  # theta_u
        self.features = FrozenFeatures("VBPR", dataset)
        self.project = self.features.linear(dim, bias=False)  # E
        self.content_bias = self.features.linear(1, bias=False)  # beta'
        self.apply(xavier_uniform_initialization)
        self.item_bias = nn.Parameter(torch.zeros(self.n_items, 1))  # beta_i

    def users(self, user: Tensor) -> Tensor:
        """Return [gamma_u ; theta_u ; 1] (B, 2d + 1)."""
        ones = torch.ones(len(user), 1, device=user.device)
        return torch.cat([self.user_embedding(user), self.user_content(user), ones], dim=-1)

    def items(self, item: Tensor) -> Tensor:
        """Return [gamma_i ; E f_i ; beta_i + beta' f_i] (B, 2d + 1)."""
        contents, bias = [], self.item_bias[item]  # (B, 1)
        for name, feature in self.features.items():
            rows = feature[item]  # (B, F_m)
            contents.append(self.project[name](rows))  # (B, d)
            bias = bias + self.content_bias[name](rows)  # (B, 1)
        content = torch.stack(contents).sum(dim=0)  # (B, d)
        return torch.cat([self.item_embedding(item), content, bias], dim=-1)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return user (U, 2d + 1) and item (I, 2d + 1) vectors; their product is eq. 4."""
        device = self.item_bias.device
        return (
            self.users(torch.arange(self.n_users, device=device)),
            self.items(torch.arange(self.n_items, device=device)),
        )

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR plus L2, a scalar averaged over B (eq. 6, 7)."""
        user, pos, neg = (interaction[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        user_e, pos_e, neg_e = self.users(user), self.items(pos), self.items(neg)
        loss = bpr_loss((user_e * pos_e).sum(-1), (user_e * neg_e).sum(-1))
        regularised = [self.user_embedding(user), self.user_content(user)]
        for item in (pos, neg):
            regularised += [self.item_embedding(item), self.item_bias[item]]
        return loss + self.reg_weight * l2_loss(*regularised)
