"""LATTICE: item-item graphs learned from content, next to LightGCN.

Reference: J. Zhang et al., "Mining Latent Structures for Multimedia Recommendation", MM 2021,
arXiv:2104.09036 (section numbers below). The collaborative part is LightGCN (the paper also tries
MF and NGCF).
Ambiguity: the paper infers the neighbours of the projected features "dynamically" without saying
how often. Here they are found anew every epoch, and their weights follow the projections at every
step, with gradients. The authors' code does both once an epoch, so that only the epoch's first
batch trains the projections; and it keeps negative cosines, which are 0 here.
Settings offer what the code does and the paper does not: it propagates over D^-1 (A + I) where the
paper has LightGCN's D^-1/2 A D^-1/2, normalises the learned graphs after mixing them where section
3.2 normalises each, trains the item features, and its linear layers start as torch's do.
"""

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.graph.knn import knn_graph
from recbole_llm.graph.pattern import EdgePattern
from recbole_llm.graph.segment import segment_sum
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.initialization import initialize
from recbole_llm.model.loss import ranking_loss
from recbole_llm.model.modality_graph import (
    REFINEMENT,
    TRAINED_FEATURES,
    item_features,
    item_graph_operators,
    item_order,
)
from recbole_llm.model.propagation import (
    Operator,
    propagate_mean,
    rows,
    training_adjacency,
    training_row_adjacency,
)
from recbole_llm.settings.group import Settings
from recbole_llm.settings.run import OVERALL, TRAINING
from recbole_llm.settings.values import Choice, Float, Int


class LATTICE(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width. E: kNN edges.

    Config keys: ``embedding_size`` (d), ``n_layers`` (user-item), ``n_item_layers``, ``knn_k``,
    ``graph_refinement`` with its three keys (see ``item_graph_operator``),
    ``initial_weight`` (lambda), ``user_item_norm``, ``learned_norm``, ``reg_weight``,
    ``initialization``, ``train_features``.
    """

    settings = (
        TRAINING
        | REFINEMENT
        | TRAINED_FEATURES
        | OVERALL.pick("lr_schedule")
        | Settings(
            embedding_size=Int(1),
            n_layers=Int(0),
            n_item_layers=Int(0),
            knn_k=Int(1),
            initial_weight=Float(0, 1),
            user_item_norm=Choice("symmetric", "row"),
            learned_norm=Choice("each", "mixed"),
            reg_weight=Float(0),
            initialization=Choice("xavier", "torch"),
        )
    )

    input_type = InputType.PAIRWISE

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, self.n_layers = config["embedding_size"], config["n_layers"]
        self.n_item_layers, self.knn_k = config["n_item_layers"], config["knn_k"]
        self.initial_weight, self.reg_weight = config["initial_weight"], config["reg_weight"]
        self.learned_norm = config["learned_norm"]
        self.user_embedding = nn.Embedding(self.n_users, dim)
        self.item_embedding = nn.Embedding(self.n_items, dim)
        self.features = item_features("LATTICE", config, dataset)
        self.project = self.features.linear(dim)
        initialize(self, config["initialization"])
        self.importance = nn.Parameter(torch.zeros(len(self.features)))  # alpha_m before softmax
        self.initial_graphs = item_graph_operators(config, dataset, self.features, weighted=True)
        if config["user_item_norm"] == "symmetric":
            self.user_item = Operator(training_adjacency(dataset), symmetric=True)  # (N, N)
        else:
            self.user_item = Operator(training_row_adjacency(dataset))
        self.tie_order = item_order(dataset)  # (I,)
        self._patterns: dict[str, EdgePattern] | None = None

    def begin_epoch(self) -> None:
        """Find the neighbours of every item by its projected features (section 3.2)."""
        self._patterns = self.learned_patterns()

    @torch.no_grad()
    def learned_patterns(self) -> dict[str, EdgePattern]:
        """Return each modality's edges from an item to its nearest by projected features."""
        patterns = {}
        for name, feature in self.features.items():
            projected = self.project[name](feature)  # (I, d)
            graph = knn_graph(projected, self.knn_k, include_self=True, tie_order=self.tie_order)
            source, target = graph.edge_index
            patterns[name] = EdgePattern(source, target, (self.n_items, self.n_items))
        return patterns

    def forward(self, patterns: dict[str, EdgePattern] | None = None) -> tuple[Tensor, Tensor]:
        """Return user (U, d) and item (I, d) embeddings; by default over the current neighbours."""
        patterns = self.learned_patterns() if patterns is None else patterns
        importance = F.softmax(self.importance, dim=0)  # (M,)
        learned = self.learned_weights(patterns, importance)
        item_h = self.item_embedding.weight
        for _ in range(self.n_item_layers):
            layer = torch.zeros_like(item_h)
            for weight, name in zip(importance, self.features.names, strict=True):
                initial = self.initial_graphs[name](item_h)  # (I, d)
                now = patterns[name].matmul(learned[name], item_h)  # (I, d)
                mixed = self.initial_weight * initial + (1.0 - self.initial_weight) * now
                layer = layer + weight * mixed
            item_h = layer
        hidden = torch.cat([self.user_embedding.weight, self.item_embedding.weight])  # (N, d)
        out = propagate_mean(
            self.user_item.matrix, hidden, self.n_layers, self.user_item.transposed
        )
        return out[: self.n_users], out[self.n_users :] + F.normalize(item_h, dim=-1)

    def learned_weights(
        self, patterns: dict[str, EdgePattern], importance: Tensor
    ) -> dict[str, Tensor]:
        """Return each modality's D^-1/2 S D^-1/2 at its edges, (E,), by name.

        S has the cosines of the projected features, without negative ones; D has the row sums of S
        (section 3.2), or those of the sum of all S that ``importance`` (M,) weighs.

        Args:
            patterns: edges of each modality.
            importance: (M,) shares of the modalities' graphs.
        """
        cosines, degrees = {}, []
        for name, feature in self.features.items():
            cosines[name] = edge_cosines(patterns[name], self.project[name](feature))
            degrees.append(segment_sum(cosines[name], patterns[name].row, self.n_items))
        if self.learned_norm == "mixed":
            mixed = torch.stack(degrees, dim=-1) @ importance  # (I,)
            degrees = [mixed] * len(degrees)
        # clamp: a row without a positive weight has degree 0, and so would its gradient be NaN
        scales = [degree.clamp(min=1e-12).rsqrt() for degree in degrees]  # (I,) each
        return {
            name: scale[patterns[name].row] * cosine * scale[patterns[name].col]
            for scale, (name, cosine) in zip(scales, cosines.items(), strict=True)
        }

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR plus L2 on the batch's final embeddings, a scalar averaged over B."""
        user, pos, neg = (interaction[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        if self._patterns is None:
            self.begin_epoch()
        user_emb, item_emb = self(self._patterns)
        user_e, pos_e, neg_e = rows(user_emb, user), rows(item_emb, pos), rows(item_emb, neg)
        return ranking_loss(user_e, pos_e, neg_e, self.reg_weight)


def edge_cosines(pattern: EdgePattern, feature: Tensor) -> Tensor:
    """Return the cosines (E,) of the pattern's edges, negative ones as 0.

    Args:
        pattern: edges among I items, E of them.
        feature: (I, d) projected features; gradients flow to them.
    """
    unit = F.normalize(feature, dim=-1)
    return pattern.dot(unit, unit).clamp(min=0.0)
