"""How unlike each other the items of one list are."""

import numpy as np
from recbole.evaluator.collector import DataStruct
from torch import Tensor

from recbole_llm.metrics.base import FEATURES, ListMetric, items_of

# Numbers of float64 that one block of lists may hold at a time: 64 MiB.
_BLOCK = 2**23


class IntraListDiversity(ListMetric):
    """Mean cosine distance of the items of a list, over all pairs, averaged over lists.

    2 / (k (k - 1)) sum_{i < j} (1 - cos(x_i, x_j)). An item without features (a zero row) is at
    distance 1 from every other. Time O(n k d), memory of one block of lists.

    Config keys: ``diversity_modality`` (name of the modality whose features are x).

    Reference: C.-N. Ziegler et al., "Improving Recommendation Lists Through Topic Diversification",
    WWW 2005 (intra-list similarity, its complement here); B. Smyth, P. McClave, ICCBR 2001.
    """

    metric_need = ["rec.items", FEATURES]

    def value(self, dataobject: DataStruct, k: int) -> float:
        """Return the mean distance, in 0 .. 2; in 0 .. 1 of features that are not negative."""
        items, features = items_of(dataobject, k), dataobject.get(FEATURES).numpy()
        square = np.einsum("id,id->i", features, features, dtype=np.float64)
        block = max(1, _BLOCK // features.shape[1])
        similarity = 0.0
        for begin in range(0, len(items), block):
            part = items[begin : begin + block]
            total = np.zeros((len(part), features.shape[1]))
            for position in range(k):
                total += features[part[:, position]]
            # |sum of x|^2 holds each pair twice, and each item with itself
            similarity += float(np.einsum("nd,nd->", total, total) - square[part].sum()) / 2
        return 1 - similarity / (len(items) * k * (k - 1) / 2)


def unit_rows(feature: Tensor) -> Tensor:
    """Return features with each row of length 1; rows of zeros stay.

    Args:
        feature: (I, d) float32.
    """
    norm = feature.double().norm(dim=1, keepdim=True)
    return (feature / norm.clamp(min=1e-300)).float()
