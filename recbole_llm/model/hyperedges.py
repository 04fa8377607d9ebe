"""Learned hyperedges of a modality, shared by LGMRec and SRGFormer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.model.loss import Factored
from recbole_llm.model.modality_graph import FrozenFeatures
from recbole_llm.model.propagation import Operator
from recbole_llm.settings.group import Settings
from recbole_llm.settings.values import Float, Int

#: Settings of ``learned_hyperedges``.
HYPEREDGES = Settings(
    n_hyperedges=Int(1),
    n_hyper_layers=Int(1),
    temperature=Float(above=0),
    hyper_dropout=Float(0, below=1),
)


class LearnedHyperedges(nn.Module):
    """One modality's hyperedges, and propagation through them.

    H_i = X V and H_u = R H_i; each row becomes a distribution over the K hyperedges, by
    Gumbel-softmax in training and by softmax in evaluation. Item embeddings are gathered into the
    hyperedges and given back, L times; users receive those of the last layer. Guo et al., "LGMRec",
    AAAI 2024, arXiv:2312.16400, section "Global Hypergraph Embedding"; SRGFormer's local part.

    Args:
        n_features: width F of the modality's features.
        n_hyperedges: number K of hyperedges, >= 1.
        n_layers: number L of layers, >= 1.
        temperature: divisor of the softmax's logits, > 0.
        dropout: rate at which memberships are dropped in training, in [0, 1).
    """

    def __init__(
        self, n_features: int, n_hyperedges: int, n_layers: int, temperature: float, dropout: float
    ) -> None:
        super().__init__()
        self.n_layers, self.temperature = n_layers, temperature
        self.hyperedge = nn.Parameter(torch.empty(n_features, n_hyperedges))  # V
        nn.init.xavier_uniform_(self.hyperedge)
        self.dropout = nn.Dropout(dropout)

    def forward(self, feature: Tensor, interactions: Operator, item_emb: Tensor) -> Factored:
        """Return embeddings (N, d), users first, as memberships times the hyperedges' embeddings.

        Args:
            feature: (I, F) float32, row 0 zero.
            interactions: product with R, binary (U, I).
            item_emb: (I, d) float32.
        """
        item_logit = feature @ self.hyperedge  # (I, K)
        user_part = self._membership(interactions(item_logit))  # (U, K)
        item_part = self._membership(item_logit)  # (I, K)
        # padding item 0 is an item like the others to a softmax; it joins no hyperedge
        item_part = torch.cat([torch.zeros_like(item_part[:1]), item_part[1:]])
        gathered = item_part.T @ item_emb  # (K, d)
        overlap = item_part.T @ item_part  # (K, K)
        for _ in range(self.n_layers - 1):
            gathered = overlap @ gathered  # (K, d) = H^T (H gathered)
        return Factored(torch.cat([user_part, item_part]), gathered)

    def _membership(self, logit: Tensor) -> Tensor:
        if self.training:
            part = F.gumbel_softmax(logit, self.temperature, dim=-1)
        else:  # without noise, so that evaluation is deterministic
            part = F.softmax(logit / self.temperature, dim=-1)
        return self.dropout(part)


def learned_hyperedges(config: Config, features: FrozenFeatures) -> nn.ModuleDict:
    """Return each modality's ``LearnedHyperedges``, by name.

    Args:
        config: settings, of which ``n_hyperedges`` (K), ``n_hyper_layers`` (L), ``temperature`` and
            ``hyper_dropout`` are read.
        features: frozen features (I, F_m) of the modalities.
    """
    keys = ("n_hyperedges", "n_hyper_layers", "temperature", "hyper_dropout")
    sizes = [config[key] for key in keys]
    return nn.ModuleDict({n: LearnedHyperedges(x.size(1), *sizes) for n, x in features.items()})


def hyperedge_views(
    hyperedges: nn.ModuleDict, features: FrozenFeatures, interactions: Operator, item_emb: Tensor
) -> list[Factored]:
    """Return each modality's embeddings (N, d) through its hyperedges.

    Args:
        hyperedges: result of ``learned_hyperedges``.
        features: frozen features (I, F_m) of the same modalities.
        interactions: product with R, binary (U, I).
        item_emb: (I, d) float32.
    """
    return [hyperedges[name](x, interactions, item_emb) for name, x in features.items()]
