"""The principal subgraph against a dense singular value decomposition of the whole graph."""

import numpy as np
import pytest

from recbole_llm.graph import principal
from recbole_llm.graph.principal import principal_adj

N_USERS, N_ITEMS, RANK = 23, 17, 8


@pytest.fixture
def edges():
    rng = np.random.default_rng(0)
    pairs = {(u, i) for u, i in zip(rng.integers(1, 23, 90), rng.integers(1, 17, 90), strict=True)}
    user, item = np.array(sorted(pairs)).T
    return user, item, rng.random(len(user)).astype(np.float32)


def by_whole_graph(user, item, weight, threshold):
    """As the authors' code has it: the (N, N) matrix, 2 r values, quarters of them in pairs."""
    n_nodes = N_USERS + N_ITEMS
    adjacency = np.zeros((n_nodes, n_nodes))
    adjacency[user, N_USERS + item] = adjacency[N_USERS + item, user] = weight
    left, value, right = np.linalg.svd(adjacency)
    value, top = value[: 2 * RANK], 2 * RANK // 4
    product = value[:top] * value[-top:]
    out = left[:, :top] @ np.diag(product) @ right[:top]
    return out * (np.abs(out) >= threshold)


@pytest.mark.parametrize("block", [5, 1024])
@pytest.mark.parametrize("threshold", [1e-3, 0.1])
def test_equals_the_decomposition_of_the_whole_graph(edges, threshold, block, monkeypatch):
    monkeypatch.setattr(principal, "_BLOCK", block)
    found = principal_adj(*edges, N_USERS, N_ITEMS, RANK, threshold).to_dense().numpy()
    expected = by_whole_graph(*edges, threshold)
    assert 0 < (expected != 0).sum() < expected.size / 2
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_rank_that_the_graph_does_not_have_is_cut(edges):
    found = principal_adj(*edges, N_USERS, N_ITEMS, 500)
    most = principal_adj(*edges, N_USERS, N_ITEMS, N_ITEMS - 1)
    assert (found.to_dense() == most.to_dense()).all()


def test_a_rank_without_a_quarter(edges):
    with pytest.raises(ValueError, match="at least 4, got 3"):
        principal_adj(*edges, N_USERS, N_ITEMS, 3)
