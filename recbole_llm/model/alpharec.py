"""AlphaRec: language representations of items in place of ids, mapped and propagated.

Reference: L. Sheng et al., "Language Representations Can be What Recommenders Need: Findings and
Potentials", ICLR 2025, arXiv:2407.05441 (section 4). Users and items without training
interactions are ranked by what is mapped from content alone.
Departs from the public code: an epoch takes each interaction once, there users are drawn alike
often with a random item each; linear maps start from Xavier with zero bias unless
``initialization: torch``. Features of several modalities are set side by side, each row at unit
length so that none outweighs the others.
"""

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.graph.sampling import NegativeItems
from recbole_llm.graph.sparse import spmm
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.content import side_by_side
from recbole_llm.model.initialization import initialize
from recbole_llm.model.loss import sampled_softmax_loss
from recbole_llm.model.modality_graph import FrozenFeatures
from recbole_llm.model.propagation import propagate_mean, rows, training_adjacency, user_mean_matrix
from recbole_llm.settings.group import Settings
from recbole_llm.settings.run import RECBOLE, TRAINING
from recbole_llm.settings.values import Choice, Float, Int


class AlphaRec(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width. F: features.

    Config keys: ``embedding_size`` (d), ``mapping``, ``hidden_size``, ``n_layers``,
    ``n_negatives``, ``temperature`` (tau), ``initialization``.
    """

    splits_batches = False  # items are drawn for each row

    settings = (
        TRAINING
        | RECBOLE.pick("train_neg_sample_args", "weight_decay")
        | Settings(
            embedding_size=Int(1),
            mapping=Choice("mlp", "linear"),
            hidden_size=Int(1),
            n_layers=Int(0),
            n_negatives=Int(1),
            temperature=Float(above=0),
            initialization=Choice("xavier", "torch"),
        )
    )

    input_type = InputType.POINTWISE
    user_feature: Tensor  # (U, F) mean of the user's training items, frozen
    item_feature: Tensor  # (I, F) frozen
    norm_adj: Tensor  # sparse (N, N), D^-1/2 A D^-1/2, training edges only
    map: nn.Module  # F -> d

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        self.n_layers, self.n_negatives = config["n_layers"], config["n_negatives"]
        self.temperature = config["temperature"]
        item_feature = side_by_side(FrozenFeatures("AlphaRec", dataset))
        user_feature = spmm(user_mean_matrix(dataset), item_feature)
        norm_adj = training_adjacency(dataset)
        width, dim = item_feature.size(1), config["embedding_size"]
        if config["mapping"] == "linear":
            # A linear map and the propagation may change places: features are propagated once.
            both = torch.cat([user_feature, item_feature])
            both = propagate_mean(norm_adj, both, self.n_layers)
            user_feature, item_feature = both[: self.n_users], both[self.n_users :]
            self.map, self.n_layers = nn.Linear(width, dim, bias=False), 0
        else:
            inner = config["hidden_size"]
            layers = nn.Linear(width, inner), nn.LeakyReLU(), nn.Linear(inner, dim)
            self.map = nn.Sequential(*layers)
        initialize(self, config["initialization"])
        self.register_buffer("user_feature", user_feature, persistent=False)
        self.register_buffer("item_feature", item_feature, persistent=False)
        self.register_buffer("norm_adj", norm_adj, persistent=False)
        edges = dataset.inter_matrix(form="coo")
        self.negatives = NegativeItems(edges.row, edges.col, self.n_users, self.n_items)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return user (U, d) and item (I, d) embeddings of unit length: scores are cosines."""
        hidden = torch.cat([self.map(self.user_feature), self.map(self.item_feature)])  # (N, d)
        out = F.normalize(propagate_mean(self.norm_adj, hidden, self.n_layers), dim=-1)
        return out[: self.n_users], out[self.n_users :]

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return InfoNCE of each interaction against random items, a scalar averaged over B."""
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        user_emb, item_emb = self()
        negatives = self.negatives.draw(user, self.n_negatives)  # (B, n_negatives)
        query = rows(user_emb, user) / self.temperature  # (B, d)
        return sampled_softmax_loss(query, item_emb, item, negatives)
