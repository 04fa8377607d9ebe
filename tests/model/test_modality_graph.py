"""Item-item graphs of features that several items share."""

import numpy as np
import pytest
from dense import ROWS

from recbole_llm.data.tie_order import tie_order
from recbole_llm.model.modality_graph import item_graph_operator, nearest_items

REFINEMENT = {"semantic_k": 3, "similarity_threshold": 0.5, "cooccurrence_k": 2}


@pytest.fixture
def shared(world):
    """A dataset whose nine items have one of two features: the first four, and the others."""
    world.write(ROWS)
    number = np.array([int(token[1:]) for token in world.tokens])
    world.add_modalities({"image": np.eye(2, dtype=np.float32)[(number >= 4).astype(int)]})
    return world.bench("MGCN", protocol="loo", knn_k=3, **REFINEMENT)


def expected_neighbours(dataset, k):
    """Return each item's first k among those of equal features, itself first, by the hash."""
    tokens = dataset.field2id_token["item_id"]
    place, feature = tie_order(tokens), dataset.modality("image").numpy()
    lists = []
    for item in range(1, len(tokens)):
        equal = [j for j in range(1, len(tokens)) if (feature[j] == feature[item]).all()]
        lists.append(sorted(equal, key=lambda j: (j != item, place[j]))[:k])
    return lists


def test_neighbours_of_equal_features_follow_the_hash_of_the_token(shared, caplog):
    dataset = shared.split.train
    graph = nearest_items(dataset, dataset.modality("image"), 3)
    found = graph.edge_index[1].view(-1, 3).tolist()
    assert found == expected_neighbours(dataset, 3)
    by_id = [sorted(row[1:]) for row in found]
    assert any(row[1:] != ordered for row, ordered in zip(found, by_id, strict=True))
    assert "7 of 9 items have the features of another item (2 columns" in caplog.text


def test_refined_graph_follows_the_hash_and_warns_too(shared, caplog):
    dataset, config = shared.split.train, shared.config
    config.final_config_dict["graph_refinement"] = True
    graph = item_graph_operator(config, dataset, dataset.modality("image"), weighted=True)
    matrix = graph.matrix.to_dense()
    for item, neighbours in enumerate(expected_neighbours(dataset, 3), start=1):
        assert matrix[item, neighbours].all()
    assert "7 of 9 items have the features of another item" in caplog.text
