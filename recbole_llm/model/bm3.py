"""BM3: bootstrapped multimodal learning without negative samples.

Reference: X. Zhou et al., "Bootstrap Latent Representations for Multi-Modal Recommendation",
WWW 2023, arXiv:2207.05969 (section numbers below).
Settings offer what the public code does beyond the paper: it trains the item features, starts the
biases at random, and regularises by norms that are not squared, of all rows.
"""

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.initialization import initialize
from recbole_llm.model.loss import l2_loss
from recbole_llm.model.modality_graph import TRAINED_FEATURES, item_features
from recbole_llm.model.propagation import propagate_mean, rows, training_adjacency
from recbole_llm.settings.group import Settings
from recbole_llm.settings.run import RECBOLE, TRAINING
from recbole_llm.settings.values import Choice, Float, Int


class BM3(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width.

    Config keys: ``embedding_size`` (d), ``n_layers``, ``dropout`` of the target views,
    ``cl_weight`` of the multi-modal losses, ``reg_weight`` and its ``reg_form``,
    ``initialization``, ``train_features``.
    """

    settings = (
        TRAINING
        | RECBOLE.pick("train_neg_sample_args")
        | TRAINED_FEATURES
        | Settings(
            embedding_size=Int(1),
            n_layers=Int(0),
            dropout=Float(0, below=1),
            cl_weight=Float(0),
            reg_weight=Float(0),
            reg_form=Choice("squares", "norms"),
            initialization=Choice("xavier", "torch_bias"),
        )
    )

    input_type = InputType.POINTWISE  # positives only; the YAML draws no negatives
    draws_by_row = True  # dropout of the batch's target views
    norm_adj: Tensor  # sparse (N, N), D^-1/2 A D^-1/2, training edges only

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, self.n_layers = config["embedding_size"], config["n_layers"]
        self.cl_weight, self.reg_weight = config["cl_weight"], config["reg_weight"]
        self.reg_form = config["reg_form"]
        self.user_embedding = nn.Embedding(self.n_users, dim)
        self.item_embedding = nn.Embedding(self.n_items, dim)
        self.features = item_features("BM3", config, dataset)
        self.project = self.features.linear(dim)
        self.predictor = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(config["dropout"])
        self.register_buffer("norm_adj", training_adjacency(dataset), persistent=False)
        initialize(self, config["initialization"])

    def backbone(self) -> tuple[Tensor, Tensor]:
        """Return LightGCN's user (U, d) and item (I, d) output; items keep a residual."""
        hidden = torch.cat([self.user_embedding.weight, self.item_embedding.weight])  # (N, d)
        out = propagate_mean(self.norm_adj, hidden, self.n_layers)
        return out[: self.n_users], out[self.n_users :] + self.item_embedding.weight

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the predictor's user (U, d) and item (I, d) embeddings, for the ranking."""
        user_emb, item_emb = self.backbone()
        return self.predictor(user_emb), self.predictor(item_emb)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return the reconstruction and alignment losses, averaged over B, and L2 (section 3.3)."""
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        user_emb, item_emb = self.backbone()
        user_h, item_h = rows(user_emb, user), rows(item_emb, item)  # (B, d)
        user_target, item_target = self.target(user_h), self.target(item_h)
        loss = distance(self.predictor(user_h), item_target)
        loss = loss + distance(self.predictor(item_h), user_target)
        if self.reg_form == "squares":
            loss = loss + self.reg_weight * l2_loss(user_h, item_h)
        else:
            norms = user_emb[1:].norm() + item_emb[1:].norm()  # without the padding rows
            loss = loss + self.reg_weight * norms / (self.n_items - 1)
        for name, feature in self.features.items():
            modality_h = self.project[name](rows(feature, item))  # (B, d)
            online = self.predictor(modality_h)
            between = distance(online, item_target)  # inter-modality alignment
            within = distance(online, self.target(modality_h))  # intra-modality masking
            loss = loss + self.cl_weight * (between + within)
        return loss

    def target(self, hidden: Tensor) -> Tensor:
        """Return the view (B, d) to predict: after dropout, and without gradient."""
        return self.dropout(hidden.detach())


def distance(online: Tensor, target: Tensor) -> Tensor:
    """Return 1 minus the mean cosine of the rows (B, d); the paper's C has it without the 1.

    Args:
        online: (B, d) predictions.
        target: (B, d) views to predict, row by row.
    """
    return 1.0 - F.cosine_similarity(online, target, dim=-1).mean()
