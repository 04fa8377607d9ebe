import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm.graph.adjacency import (
    bipartite_norm_adj,
    knn_norm_adj,
    linked_norm_adj,
    norm_interactions,
    row_norm_matrix,
    user_item_block,
)
from recbole_llm.graph.knn import KnnGraph

N_USERS, N_ITEMS = 5, 4
EDGES = st.lists(st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1)), max_size=25)


def columns(edges: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    user, item = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    return user, item


def dense_incidence(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    dense = np.zeros((N_USERS, N_ITEMS))
    dense[user, item] = 1
    return dense


def test_hand_worked_norm_adj():
    # u0 - i0, u0 - i1, u1 - i1; u0 and i1 have degree 2
    norm_adj = bipartite_norm_adj(np.array([0, 0, 1]), np.array([0, 1, 1]), 2, 2).to_dense()
    half, root = 1 / 2, 1 / np.sqrt(2)
    expected = [[0, 0, root, half], [0, 0, 0, root], [root, 0, 0, 0], [half, root, 0, 0]]
    assert norm_adj[0, 3] == half
    np.testing.assert_allclose(norm_adj.numpy(), expected, rtol=1e-6)


def test_hand_worked_links_between_items():
    # u0 - i0, u0 - i1, u1 - i1, given twice, and i1 receives from i0: i1 has degree 3, u0 degree 2
    user, item = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    norm_adj = linked_norm_adj(user, item, torch.tensor([[1], [0]]), 2, 2)
    root2, root3, root6 = (1 / np.sqrt(n) for n in (2, 3, 6))
    expected = [[0, 0, root2, root6], [0, 0, 0, root3], [root2, 0, 0, 0], [root6, root3, root3, 0]]
    np.testing.assert_allclose(norm_adj.to_dense().numpy(), expected, rtol=1e-6)
    block = user_item_block(norm_adj, 2)
    np.testing.assert_allclose(block.to_dense().numpy(), np.array(expected)[:2, 2:], rtol=1e-6)


def test_hand_worked_row_norm():
    matrix = row_norm_matrix(np.array([0, 0, 2, 0]), np.array([1, 3, 0, 1]), 3, 4)
    assert matrix.to_dense().tolist() == [[0, 0.5, 0, 0.5], [0, 0, 0, 0], [1, 0, 0, 0]]


@settings(max_examples=50, deadline=None)
@given(EDGES)
def test_norm_adj_matches_dense(edges):
    user, item = columns(edges)
    incidence = dense_incidence(user, item)
    adjacency = np.block(
        [
            [np.zeros((N_USERS, N_USERS)), incidence],
            [incidence.T, np.zeros((N_ITEMS, N_ITEMS))],
        ]
    )
    degree = adjacency.sum(1)
    scale = np.divide(1, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    norm_adj = bipartite_norm_adj(user, item, N_USERS, N_ITEMS)
    expected = scale[:, None] * adjacency * scale
    np.testing.assert_allclose(norm_adj.to_dense().numpy(), expected, rtol=1e-6)
    assert len(norm_adj.values()) == adjacency.sum()
    assert torch.equal(norm_adj.to_dense(), norm_adj.to_dense().T)


@settings(max_examples=50, deadline=None)
@given(EDGES)
def test_row_sums_are_one_or_zero(edges):
    user, item = columns(edges)
    matrix = row_norm_matrix(user, item, N_USERS, N_ITEMS)
    has_edges = np.isin(np.arange(N_USERS), user)
    np.testing.assert_allclose(matrix.to_dense().sum(1).numpy(), has_edges, rtol=1e-6)
    pattern = matrix.to_dense().numpy() > 0
    np.testing.assert_array_equal(pattern, dense_incidence(user, item) > 0)


@settings(max_examples=25, deadline=None)
@given(EDGES, st.permutations(range(N_USERS)), st.permutations(range(N_ITEMS)))
def test_renaming_ids_permutes_the_matrix(edges, user_name, item_name):
    user, item = columns(edges)
    user_name, item_name = np.array(user_name), np.array(item_name)
    before = bipartite_norm_adj(user, item, N_USERS, N_ITEMS).to_dense()
    after = bipartite_norm_adj(user_name[user], item_name[item], N_USERS, N_ITEMS).to_dense()
    node = torch.from_numpy(np.concatenate([user_name, item_name + N_USERS]))
    assert torch.equal(after[node][:, node], before)


@settings(max_examples=50, deadline=None)
@given(EDGES)
def test_norm_interactions_match_dense(edges):
    user, item = columns(edges)
    incidence = dense_incidence(user, item)
    expected = np.zeros_like(incidence)
    for u, i in zip(*incidence.nonzero(), strict=True):
        expected[u, i] = 1 / np.sqrt(incidence[u].sum() * incidence[:, i].sum())
    found = norm_interactions(user, item, N_USERS, N_ITEMS)
    np.testing.assert_allclose(found.to_dense().numpy(), expected, rtol=1e-6)
    assert found.dtype == torch.float32
    assert len(found.values()) == incidence.sum()
    whole = bipartite_norm_adj(user, item, N_USERS, N_ITEMS).to_dense()
    assert torch.equal(found.to_dense(), whole[:N_USERS, N_USERS:])


# 1 has itself and 2; 2 has itself, 1 (opposite) and 3; 4 has 1 (opposite); 0 and 3 have nobody
NEIGHBOURS = KnnGraph(
    torch.tensor([[1, 1, 2, 2, 2, 4], [1, 2, 2, 3, 1, 1]]),
    torch.tensor([1.0, 0.5625, 1.0, 0.44, -0.5, -0.3]),
)


def test_hand_worked_knn_norm_adj_of_edges():
    found = knn_norm_adj(NEIGHBOURS, 5, weighted=False).to_dense()
    # row sums 2, 3 and 1; what leads to 3, whose row sum is 0, is 0 and not infinite
    root2, root6 = 1 / np.sqrt(2), 1 / np.sqrt(6)
    expected = np.zeros((5, 5))
    expected[1, 1], expected[1, 2] = 1 / 2, root6
    expected[2, 2], expected[2, 1] = 1 / 3, root6
    expected[4, 1] = root2
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_hand_worked_knn_norm_adj_of_similarities():
    found = knn_norm_adj(NEIGHBOURS, 5, weighted=True).to_dense()
    # negative ones are 0: row sums 1.5625 = 1.25^2, 1.44 = 1.2^2, and none of 4
    expected = np.zeros((5, 5))
    expected[1, 1], expected[1, 2] = 0.64, 0.5625 / (1.25 * 1.2)
    expected[2, 2] = 1 / 1.44
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_knn_norm_adj_without_any_edge():
    nobody = KnnGraph(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0))
    for weighted in (False, True):
        assert not knn_norm_adj(nobody, 3, weighted=weighted).to_dense().any()


def test_bad_ids():
    with pytest.raises(ValueError, match=r"row must hold ids in \[0, 2\), got 2"):
        bipartite_norm_adj(np.array([2]), np.array([0]), 2, 3)
    with pytest.raises(ValueError, match=r"col must hold ids in \[0, 3\), got 3"):
        bipartite_norm_adj(np.array([0]), np.array([3]), 2, 3)
    with pytest.raises(ValueError, match=r"col must hold ids in \[0, 3\), got 3"):
        norm_interactions(np.array([0]), np.array([3]), 2, 3)
    with pytest.raises(ValueError, match="equally long"):
        row_norm_matrix(np.array([0]), np.array([1, 1]), 2, 2)
