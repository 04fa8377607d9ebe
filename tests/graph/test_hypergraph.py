import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm.graph.hypergraph import Hypergraph, i2i_hypergraph, u2u_hypergraph

N_USERS, N_ITEMS = 6, 5
USER_ITEM = st.lists(
    st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1)), max_size=20
)
ITEM_ITEM = st.lists(
    st.tuples(st.integers(0, N_ITEMS - 1), st.integers(0, N_ITEMS - 1)), max_size=15
)


def columns(edges: list[tuple[int, int]]) -> np.ndarray:
    return np.array(edges, dtype=np.int64).reshape(-1, 2).T


def as_matrix(module: Hypergraph) -> np.ndarray:
    """Return the operator itself, by applying it to the identity in float64."""
    eye = torch.eye(module.incidence.size(0), dtype=torch.float64)
    return copy.deepcopy(module).double()(eye).numpy()


def power(degree: np.ndarray, exponent: float) -> np.ndarray:
    return np.power(degree, exponent, out=np.zeros_like(degree), where=degree > 0)


def dense_u2u(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    incidence = np.zeros((N_USERS, N_ITEMS))
    incidence[user, item] = 1
    shared = incidence @ incidence.T
    np.fill_diagonal(shared, 0)
    return power(shared.sum(1), -1)[:, None] * shared


def dense_i2i(edge_lists: list[np.ndarray]) -> np.ndarray:
    blocks = []
    for row, col in edge_lists:
        block = np.zeros((N_ITEMS, N_ITEMS))
        block[row, col] = 1
        blocks.append(block)
    incidence = np.hstack(blocks)
    shared = incidence @ incidence.T
    scale = power(shared.sum(1), -0.5)
    return scale[:, None] * shared * scale


def test_hand_worked_u2u():
    # u1 and u2 share i1 and i2, u2 and u3 share i3, u4 has i4 alone; u0 and i0 are padding
    user, item = np.array([1, 1, 2, 2, 2, 3, 4]), np.array([1, 2, 1, 2, 3, 3, 4])
    expected = np.zeros((5, 5))
    expected[1, 2] = 1
    expected[2, [1, 3]] = 2 / 3, 1 / 3
    expected[3, 2] = 1
    np.testing.assert_allclose(as_matrix(u2u_hypergraph(user, item, 5, 5)), expected, atol=1e-7)


def test_hand_worked_i2i():
    # image: 1 -> 2, 2 -> 1, 3 -> 2; text: 1 -> 2. Only 1 and 3 share a neighbour, in images.
    image, text = torch.tensor([[1, 2, 3], [2, 1, 2]]), torch.tensor([[1], [2]])
    # S: rows 1 [2, 0, 1], 2 [0, 1, 0], 3 [1, 0, 1]; D = 3, 1, 2
    root = 1 / np.sqrt(6)
    expected = np.zeros((4, 4))
    expected[1:, 1:] = [[2 / 3, 0, root], [0, 1, 0], [root, 0, 1 / 2]]
    np.testing.assert_allclose(as_matrix(i2i_hypergraph([image, text], 4)), expected, atol=1e-7)


@settings(max_examples=50, deadline=None)
@given(USER_ITEM)
def test_u2u_matches_dense(edges):
    user, item = columns(edges)
    matrix = as_matrix(u2u_hypergraph(user, item, N_USERS, N_ITEMS))
    np.testing.assert_allclose(matrix, dense_u2u(user, item), atol=1e-6)
    row_sums = matrix.sum(1)
    assert np.all(np.isclose(row_sums, 1) | (row_sums == 0))
    assert np.all(np.diag(matrix) == 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(ITEM_ITEM, min_size=1, max_size=3))
def test_i2i_matches_dense(edge_lists):
    arrays = [columns(edges) for edges in edge_lists]
    module = i2i_hypergraph([torch.from_numpy(a.copy()) for a in arrays], N_ITEMS)
    matrix = as_matrix(module)
    np.testing.assert_allclose(matrix, dense_i2i(arrays), atol=1e-6)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(USER_ITEM, st.permutations(range(N_USERS)), st.permutations(range(N_ITEMS)))
def test_renaming_ids_permutes_the_output(edges, user_name, item_name):
    user, item = columns(edges)
    user_name, item_name = np.array(user_name), np.array(item_name)
    before = as_matrix(u2u_hypergraph(user, item, N_USERS, N_ITEMS))
    renamed = u2u_hypergraph(user_name[user], item_name[item], N_USERS, N_ITEMS)
    after = as_matrix(renamed)[np.ix_(user_name, user_name)]
    np.testing.assert_allclose(after, before, atol=1e-12)


def u2u_example() -> Hypergraph:
    rng = np.random.default_rng(0)
    return u2u_hypergraph(rng.integers(1, 6, 12), rng.integers(1, 5, 12), N_USERS, N_ITEMS)


def i2i_example() -> Hypergraph:
    edges = torch.tensor([[1, 1, 2, 3, 4], [2, 3, 3, 2, 1]])
    return i2i_hypergraph([edges, edges.flip(0)], N_ITEMS)


@pytest.mark.parametrize("build", [u2u_example, i2i_example])
def test_gradients(build):
    module = build().double()
    x = torch.randn(module.incidence.size(0), 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, x)


@pytest.mark.parametrize("build", [u2u_example, i2i_example])
def test_float32_agrees_with_float64_and_survives_deepcopy(build):
    module = build()
    x = torch.randn(module.incidence.size(0), 3, generator=torch.Generator().manual_seed(0))
    out = module(x)
    assert out.dtype is torch.float32
    torch.testing.assert_close(copy.deepcopy(module)(x), out)
    torch.testing.assert_close(copy.deepcopy(module).double()(x.double()).float(), out)
    assert not module.state_dict()


def test_zero_degree_nodes_yield_zeros():
    # nobody shares anything: no NaN, in the output or in the gradient
    module = u2u_hypergraph(np.array([1, 2]), np.array([1, 2]), 3, 3)
    x = torch.ones(3, 2, requires_grad=True)
    out = module(x)
    out.sum().backward()
    assert out.tolist() == [[0, 0]] * 3
    assert x.grad.tolist() == [[0, 0]] * 3


def test_bad_inputs():
    with pytest.raises(ValueError, match="one edge list per modality, got none"):
        i2i_hypergraph([], 3)
    with pytest.raises(ValueError, match=r"knn_edges\[1\] must have shape \(2, E\), got \(3, 2\)"):
        i2i_hypergraph([torch.ones(2, 1, dtype=torch.int64), torch.ones(3, 2)], 3)
    first = torch.tensor([[1], [3]])  # would fall on the second modality's first column
    with pytest.raises(ValueError, match=r"knn_edges\[0\] must hold ids in \[0, 3\), got 1 to 3"):
        i2i_hypergraph([first, torch.tensor([[1], [2]])], 3)
    # a negative neighbour would fall on the first modality's last column
    with pytest.raises(ValueError, match=r"knn_edges\[1\] must hold ids in .*, got -1 to 1"):
        i2i_hypergraph([torch.tensor([[1], [2]]), torch.tensor([[1], [-1]])], 3)
    with pytest.raises(ValueError, match=r"row must hold ids in \[0, 2\)"):
        u2u_hypergraph(np.array([2]), np.array([0]), 2, 2)
