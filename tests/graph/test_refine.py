"""Refined item-item graphs against dense numpy, entry by entry."""

import numpy as np
import pytest
import torch

from recbole_llm.graph.refine import cooccurrence_graph, refined_adj, semantic_graph

N_USERS, N_ITEMS = 31, 23


@pytest.fixture
def edges():
    rng = np.random.default_rng(0)
    user, item = rng.integers(1, N_USERS, 150), rng.integers(1, N_ITEMS - 2, 150)
    return np.r_[user, user[:7]], np.r_[item, item[:7]]  # the last two items have no users


@pytest.fixture
def feature():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(N_ITEMS, 5)).astype(np.float32)
    rows[0] = rows[9] = 0
    return torch.from_numpy(rows)


def dense_jaccard(user, item):
    audience = [set(user[item == i].tolist()) for i in range(N_ITEMS)]
    out = np.zeros((N_ITEMS, N_ITEMS))
    for a in range(N_ITEMS):
        for b in range(N_ITEMS):
            either = audience[a] | audience[b]
            if a != b and either:
                out[a, b] = len(audience[a] & audience[b]) / len(either)
    return out


def keep_best(matrix, k, order=None):
    """Zero all but the k largest of each row, ties to the lower column or to the lower order."""
    out = np.zeros_like(matrix)
    order = np.arange(len(matrix)) if order is None else order
    for row, values in enumerate(matrix):
        best = sorted(range(len(values)), key=lambda j: (-values[j], order[j]))[:k]
        out[row, best] = values[best]
    return out


def dense(graph, value=None):
    out = np.zeros((N_ITEMS, N_ITEMS))
    value = graph.similarity if value is None else value
    np.add.at(out, tuple(graph.edge_index.numpy()), value.numpy())
    return out


@pytest.mark.parametrize("block", [1, 5, 2048])
@pytest.mark.parametrize("k", [1, 3, 50])
def test_cooccurrence_is_the_best_jaccard_coefficients(edges, k, block):
    graph = cooccurrence_graph(*edges, N_USERS, N_ITEMS, k, block)
    np.testing.assert_allclose(dense(graph), keep_best(dense_jaccard(*edges), k), atol=1e-7)


def test_equal_coefficients_follow_the_order(edges):
    order = np.random.default_rng(0).permutation(N_ITEMS)
    graph = cooccurrence_graph(*edges, N_USERS, N_ITEMS, 3, tie_order=torch.from_numpy(order))
    expected = keep_best(dense_jaccard(*edges), 3, order)
    assert (expected != keep_best(dense_jaccard(*edges), 3)).any()
    np.testing.assert_allclose(dense(graph), expected, atol=1e-7)


def test_equal_features_follow_the_order():
    feature = torch.ones(5, 2)
    feature[0] = 0  # padding
    graph = semantic_graph(feature, 2, 0.5, torch.tensor([0, 4, 1, 3, 2]))
    assert graph.edge_index.tolist() == [[1, 1, 2, 2, 3, 3, 4, 4], [1, 2, 2, 4, 3, 2, 4, 2]]
    assert graph.n_copies == 3


def test_same_audience_counts_as_one_and_an_item_is_not_its_own_neighbour():
    user, item = [1, 2, 1, 2, 3], [1, 1, 2, 2, 3]
    graph = cooccurrence_graph(np.array(user), np.array(item), 4, 4, 3)
    assert graph.edge_index.tolist() == [[1, 2], [2, 1]] and graph.similarity.tolist() == [1, 1]


def test_cooccurrence_k_below_one(edges):
    with pytest.raises(ValueError, match="cooccurrence_k must be at least 1, got 0"):
        cooccurrence_graph(*edges, N_USERS, N_ITEMS, 0)


def test_semantic_edges_are_near_enough(feature):
    unit = feature.double().numpy()
    norm = np.linalg.norm(unit, axis=1, keepdims=True)
    unit = np.divide(unit, norm, out=np.zeros_like(unit), where=norm > 0)
    cosine = unit @ unit.T
    cosine[:, norm[:, 0] == 0] = -9  # rows of zeros are nobody's neighbours
    best = np.where(norm > 0, keep_best(cosine, 4), 0)
    for threshold in (None, 0.3, 0.95):
        expected = best if threshold is None else np.where(best >= threshold, best, 0)
        found = dense(semantic_graph(feature, 4, threshold))
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (np.diag(found)[1:9] > 0.99).all()  # an item stays its own neighbour


def test_refined_graph_is_the_normalised_sum(edges, feature):
    semantic = semantic_graph(feature, 4, 0.3)
    audience = cooccurrence_graph(*edges, N_USERS, N_ITEMS, 3)
    for other in (audience, None):
        total = dense(semantic, torch.ones(len(semantic.similarity)))
        total += 0 if other is None else dense(other)
        degree = total.sum(axis=1)
        expected = np.zeros_like(total)
        for a, b in zip(*total.nonzero(), strict=True):
            if degree[a] and degree[b]:
                expected[a, b] = total[a, b] / np.sqrt(degree[a] * degree[b])
        found = refined_adj(semantic, other, N_ITEMS).to_dense().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6)
