"""One item-item graph of several modalities: the weighted sum of their graphs.

FREEDOM (arXiv:2211.06924, section 3.1) has it; PGL and DRAGON take it over.
"""

from collections.abc import Mapping

import torch

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.graph.sparse import csr_matrix
from recbole_llm.model.modality_graph import REFINEMENT, FrozenFeatures, item_graph_operators
from recbole_llm.model.propagation import Operator
from recbole_llm.settings.group import MapOf, Optional, Settings
from recbole_llm.settings.values import Float, Int

#: Settings of ``mixed_item_graph``.
ITEM_MIXTURE = REFINEMENT | Settings(knn_k=Int(1), modality_weights=Optional(MapOf(Float(0))))


def mixed_item_graph(
    config: Config, dataset: MultimodalDataset, features: FrozenFeatures
) -> Operator:
    """Return the weighted sum (I, I) of the modalities' item-item graphs, 0/1 edges, as a layer.

    Args:
        config: settings of ``ITEM_MIXTURE``.
        dataset: training part.
        features: features (I, F_m) of the modalities.

    Raises:
        ValueError: ``share_weights`` refuses the weights, a number of neighbours is out of range,
            or a feature is NaN or infinite.
    """
    weights = share_weights(config["modality_weights"], features.names)
    graphs = item_graph_operators(config, dataset, features, weighted=False)
    matrices = [graphs[name].get_buffer("matrix").to_sparse_coo() for name in features.names]
    row, col = torch.cat([matrix.indices() for matrix in matrices], dim=1)
    value = torch.cat([w * m.values() for w, m in zip(weights, matrices, strict=True)])
    return Operator(csr_matrix(row, col, value, (dataset.item_num, dataset.item_num)))


def share_weights(given: Mapping[str, float] | None, names: list[str]) -> list[float]:
    """Return one weight a modality, adding up to 1; those not given share the rest equally.

    Args:
        given: weights >= 0 of some modalities, or of all, by name; None: of none.
        names: names of all modalities, in the order of the result.

    Raises:
        ValueError: a weight is negative, the given ones exceed 1 although others are left, or all
            weights are 0.
    """
    given = given or {}
    fixed = {name: float(given[name]) for name in names if name in given}
    others, left = len(names) - len(fixed), 1.0 - sum(fixed.values())
    if min(fixed.values(), default=0.0) < 0 or (others and left < 0):
        raise ValueError(
            f"modality_weights must be numbers >= 0 that add up to at most 1, got {dict(given)}."
        )
    weights = [fixed.get(name, left / max(others, 1)) for name in names]
    if not sum(weights) > 0:
        raise ValueError(f"modality_weights leave every modality of {names} without weight.")
    return [weight / sum(weights) for weight in weights]
