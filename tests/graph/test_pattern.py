import copy

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from recbole_llm.graph.pattern import EdgePattern

# (7, 5): rows 0, 3 and 6 and columns 1 and 4 are empty, two edges are given more than once
ROW = np.array([5, 1, 2, 5, 1, 4, 1, 5, 2, 5])
COL = np.array([3, 0, 2, 0, 3, 2, 0, 2, 3, 3])
SHAPE = (7, 5)


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def pattern() -> EdgePattern:
    return EdgePattern(ROW, COL, SHAPE)


def dense(pattern: EdgePattern, value: Tensor) -> np.ndarray:
    out = np.zeros(SHAPE)
    for row, col, number in zip(pattern.row.tolist(), pattern.col.tolist(), value, strict=True):
        out[row, col] = number
    return out


def test_edges_are_distinct_and_sorted_by_row_then_column(pattern):
    edges = sorted(set(zip(ROW.tolist(), COL.tolist(), strict=True)))
    assert list(zip(pattern.row.tolist(), pattern.col.tolist(), strict=True)) == edges
    assert len(pattern) == len(edges) == 8
    assert pattern.row.dtype == pattern.col.dtype == torch.int64


def test_dot_equals_dense(pattern):
    left, right = normal(7, 3), normal(5, 3, seed=1)
    product = left.numpy() @ right.numpy().T
    expected = [product[i, j] for i, j in zip(pattern.row, pattern.col, strict=True)]
    np.testing.assert_allclose(pattern.dot(left, right).numpy(), expected, rtol=1e-12)


def test_matmul_equals_dense(pattern):
    value, right = normal(8), normal(5, 3, seed=1)
    expected = dense(pattern, value) @ right.numpy()
    found = pattern.matmul(value, right)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-15)
    assert not found[[0, 3, 6]].any()


def test_matrix_and_transpose_equal_dense(pattern):
    value = normal(8)
    expected = dense(pattern, value)
    np.testing.assert_array_equal(pattern.matrix(value).to_dense().numpy(), expected)
    np.testing.assert_array_equal(pattern.transpose(value).to_dense().numpy(), expected.T)
    assert pattern.matrix(value).layout == pattern.transpose(value).layout == torch.sparse_csr


@pytest.mark.parametrize("heads", [(), (3,)])
def test_softmax_equals_dense_per_row_and_head(pattern, heads):
    score = 10 * normal(8, *heads)
    found = pattern.softmax(score).view(8, -1).numpy()
    for head, column in enumerate(score.view(8, -1).T):
        exp = np.exp(dense(pattern, column)) * (dense(pattern, torch.ones(8)) > 0)
        total = exp.sum(axis=1)
        expected = [exp[i, j] / total[i] for i, j in zip(pattern.row, pattern.col, strict=True)]
        np.testing.assert_allclose(found[:, head], expected, rtol=1e-12)


def test_gradients(pattern):
    left, right = normal(7, 3).requires_grad_(), normal(5, 3, seed=1).requires_grad_()
    value = normal(8, seed=2).requires_grad_()
    assert gradcheck(pattern.dot, (left, right))
    assert gradcheck(pattern.matmul, (value, right))


def test_gradients_where_both_ends_are_one_table():
    square = EdgePattern(np.array([0, 2, 2, 3]), np.array([0, 1, 3, 2]), (4, 4))
    hidden = normal(4, 3).requires_grad_()

    def attend(hidden: Tensor) -> Tensor:
        return square.matmul(square.softmax(square.dot(hidden, hidden)), hidden)

    assert gradcheck(attend, (hidden,))


def test_gradients_through_inputs_that_are_not_contiguous(pattern):
    left, right = normal(3, 7).requires_grad_(), normal(6, 5).requires_grad_()

    def product(left: Tensor, right: Tensor) -> Tensor:
        columns = right.T[:, ::2]  # (5, 3)
        return pattern.matmul(pattern.dot(left.T, columns), columns)

    assert gradcheck(product, (left, right))


@pytest.mark.parametrize("move", [lambda p: p.to(torch.device("cpu")), copy.deepcopy])
def test_moved_and_copied(pattern, move):
    left, value, right = normal(7, 3), normal(8, seed=2), normal(5, 3, seed=1)
    moved = move(EdgePattern(ROW, COL, SHAPE))
    assert torch.equal(moved.dot(left, right), pattern.dot(left, right))
    assert torch.equal(moved.matmul(value, right), pattern.matmul(value, right))
    assert torch.equal(moved.softmax(value), pattern.softmax(value))
    assert torch.equal(moved.transpose(value).to_dense(), pattern.transpose(value).to_dense())
    assert len(moved) == len(pattern)


def test_stays_out_of_checkpoints(pattern):
    assert not pattern.state_dict()


def test_without_edges():
    none = np.zeros(0, dtype=np.int64)
    pattern = EdgePattern(none, none, SHAPE)
    right = normal(5, 3).requires_grad_()
    out = pattern.matmul(pattern.dot(normal(7, 3), right), right)
    assert torch.equal(out, torch.zeros(7, 3, dtype=torch.float64))
    out.sum().backward()
    assert not right.grad.any()


def test_bad_ids():
    with pytest.raises(ValueError, match=r"row must hold ids in \[0, 7\), got 7"):
        EdgePattern(np.array([7]), np.array([0]), SHAPE)
    with pytest.raises(ValueError, match=r"col must hold ids in \[0, 5\), got 5"):
        EdgePattern(np.array([0]), np.array([5]), SHAPE)
    with pytest.raises(ValueError, match="equally long"):
        EdgePattern(np.array([0]), np.array([0, 1]), SHAPE)
