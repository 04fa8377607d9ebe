import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from recbole_llm.graph.sparse import (
    csr_matrix,
    largest_entries,
    shared_edges,
    spmm,
    transpose_csr,
)

SHAPE = (5, 4)


def random_matrix(seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Return a CSR matrix and the same matrix, dense in NumPy; row 2 and column 3 are empty."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=SHAPE) * (rng.random(SHAPE) < 0.6)
    dense[2], dense[:, 3] = 0, 0
    row, col = dense.nonzero()
    shuffle = rng.permutation(len(row))
    row, col = row[shuffle], col[shuffle]
    return csr_matrix(row, col, dense[row, col], SHAPE), dense


def test_hand_worked_csr():
    matrix = csr_matrix(np.array([2, 0, 0]), np.array([1, 2, 0]), np.array([5, 7, 3]), (3, 3))
    assert matrix.layout is torch.sparse_csr
    assert matrix.dtype is torch.float32
    assert matrix.crow_indices().tolist() == [0, 2, 2, 3]
    assert matrix.col_indices().tolist() == [0, 2, 1]
    assert matrix.values().tolist() == [3, 7, 5]


def test_duplicates_merge_when_binary_and_sum_when_valued():
    row, col = np.array([1, 0, 1, 1]), np.array([0, 1, 0, 0])
    binary = csr_matrix(row, col, None, (2, 2))
    assert binary.values().tolist() == [1, 1]
    valued = csr_matrix(row, col, np.array([1.0, 2.0, 3.0, 4.0]), (2, 2))
    assert valued.to_dense().tolist() == [[0, 2], [8, 0]]
    assert valued.values().tolist() == [2, 8]


@pytest.mark.parametrize("kind", [np.int32, np.int64, torch.tensor])
def test_index_types_agree(kind):
    row, col = [0, 4, 3], [3, 0, 0]
    matrix = csr_matrix(kind(row), kind(col), None, SHAPE)
    assert matrix.to_dense().nonzero().tolist() == [[0, 3], [3, 0], [4, 0]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(-9, 9)), max_size=30))
def test_matches_dense_accumulation(entries):
    row, col, value = np.array(entries, dtype=np.int64).reshape(-1, 3).T
    expected = np.zeros(SHAPE)
    np.add.at(expected, (row, col), value)
    matrix = csr_matrix(row, col, value, SHAPE)
    np.testing.assert_array_equal(matrix.to_dense().numpy(), expected)
    assert len(matrix.values()) == len(set(zip(row, col, strict=True)))
    # the invariants of CSR hold, with columns sorted and distinct in every row
    torch.sparse_csr_tensor(
        matrix.crow_indices(), matrix.col_indices(), matrix.values(), SHAPE, check_invariants=True
    )
    binary = csr_matrix(row, col, None, SHAPE).to_dense().numpy()
    np.testing.assert_array_equal(binary, csr_pattern(row, col))


def csr_pattern(row: np.ndarray, col: np.ndarray) -> np.ndarray:
    pattern = np.zeros(SHAPE)
    pattern[row, col] = 1
    return pattern


def test_transpose_and_product_match_numpy():
    matrix, dense = random_matrix()
    x = np.random.default_rng(1).normal(size=(4, 3))
    np.testing.assert_allclose(transpose_csr(matrix).to_dense().numpy(), dense.T, rtol=1e-6)
    assert transpose_csr(matrix).layout is torch.sparse_csr
    for dtype, rtol in ((torch.float32, 1e-5), (torch.float64, 1e-6)):
        out = spmm(matrix.to(dtype), torch.tensor(x, dtype=dtype))
        assert out.dtype is dtype
        assert type(out) is torch.Tensor
        np.testing.assert_allclose(out.numpy(), dense @ x, rtol=rtol, atol=1e-6)


def test_product_of_layouts_that_are_not_contiguous():
    matrix, dense = random_matrix()
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(spmm(matrix, x.T).numpy(), dense @ x.T.numpy(), atol=1e-6)
    ones = torch.ones(1, 1).expand(4, 2)
    np.testing.assert_allclose(spmm(matrix, ones).numpy(), dense @ np.ones((4, 2)), atol=1e-6)


def test_empty_matrix():
    empty = csr_matrix(np.array([], dtype=int), np.array([], dtype=int), None, SHAPE)
    assert spmm(empty, torch.ones(4, 2)).tolist() == [[0, 0]] * 5
    assert spmm(transpose_csr(empty), torch.ones(5, 2)).tolist() == [[0, 0]] * 4


@pytest.mark.parametrize("with_transpose", [True, False])
def test_gradients(with_transpose):
    matrix = random_matrix()[0].double()
    transpose = transpose_csr(matrix) if with_transpose else None
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: spmm(matrix, x, transpose), x)
    assert torch.autograd.gradgradcheck(lambda x: spmm(matrix, x, transpose), x)


def test_backward_uses_the_transpose_it_is_given():
    matrix, dense = random_matrix()
    x = torch.ones(4, 2, requires_grad=True)
    spmm(matrix, x, transpose_csr(matrix)).sum().backward()
    expected = np.repeat(dense.sum(0)[:, None], 2, axis=1)
    np.testing.assert_allclose(x.grad.numpy(), expected, atol=1e-6)
    x.grad = None
    spmm(matrix, x, transpose_csr(matrix) * 2).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * expected, atol=1e-6)


def test_no_graph_under_no_grad():
    matrix, _ = random_matrix()
    with torch.no_grad():
        assert not spmm(matrix, torch.ones(4, 2, requires_grad=True)).requires_grad


def test_autocast_computes_in_the_matrix_dtype():
    matrix, dense = random_matrix()
    x = torch.ones(4, 2, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = spmm(matrix, x)
        out.sum().backward()
    assert out.dtype is torch.float32
    np.testing.assert_allclose(out.detach().numpy(), dense @ np.ones((4, 2)), atol=1e-6)
    assert x.grad.dtype is torch.bfloat16


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", random_matrix()[0], persistent=False)
        self.linear = nn.Linear(3, 4)

    def forward(self) -> torch.Tensor:
        return spmm(self.matrix, self.linear.weight)


@pytest.mark.parametrize(
    "change",
    [
        copy.deepcopy,
        lambda m: m.to("cpu"),
        lambda m: m.double(),
        lambda m: copy.deepcopy(m.double()),
        lambda m: copy.deepcopy(m.to(torch.float64).float()),
        lambda m: copy.deepcopy(copy.deepcopy(m)),
        lambda m: pickle.loads(pickle.dumps(m)),
        lambda m: copy.deepcopy(pickle.loads(pickle.dumps(m))),
    ],
)
def test_module_with_csr_buffer_survives(change):
    module = Holder()
    expected = module().detach()
    changed = change(module)
    assert changed.matrix.layout is torch.sparse_csr
    assert changed.matrix.dtype is changed.linear.weight.dtype
    torch.testing.assert_close(changed().detach().float(), expected)
    assert "matrix" not in changed.state_dict()


def test_deepcopy_shares_nothing_and_keeps_identity():
    module = Holder()
    module.register_buffer("again", module.matrix, persistent=False)
    clone = copy.deepcopy(module)
    assert clone.again is clone.matrix
    clone.matrix.values().zero_()
    assert module.matrix.values().abs().sum() > 0


BUILD = """
ids = np.array([0, 1, 1])
ids.flags.writeable = False
m = csr_matrix(ids, ids, None, (2, 2))
x = torch.ones(2, 3, requires_grad=True)
spmm(m, x).sum().backward()
spmm(m.double(), x.double(), transpose_csr(m).double()).sum().backward()
copy.deepcopy(m), repr(m)
"""


@pytest.mark.parametrize("first_use", [BUILD, "pickle.load(sys.stdin.buffer).double()"])
def test_no_warning_reaches_the_user(first_use):
    # A process of its own: torch warns once per process, so another test may have used it up.
    code = f"""
import copy, pickle, sys, warnings
import numpy as np, torch
from recbole_llm.graph.sparse import (
    csr_matrix,
    largest_entries,
    shared_edges,
    spmm,
    transpose_csr,
)
warnings.simplefilter("error")
{first_use}
"""
    pickled = pickle.dumps(random_matrix()[0])
    run = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True)
    assert (run.returncode, run.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("row", "col", "value", "match"),
    [
        ([0, 1], [0], None, "equally long, got 2 and 1"),
        ([0, 5], [0, 0], None, r"row must hold ids in \[0, 5\), got 5 at position 1"),
        ([0, -1], [0, 0], None, r"row must hold ids in \[0, 5\), got -1 at position 1"),
        ([0, 0], [4, 0], None, r"col must hold ids in \[0, 4\), got 4 at position 0"),
        ([0.0, 1.0], [0, 0], None, "row must be a one-dimensional array of integer ids"),
        ([True, False], [0, 0], None, "integer ids, got shape .* torch.bool"),
        ([[0]], [[0]], None, r"got shape \(1, 1\)"),
        ([0, 1], [0, 0], [1.0], r"value must have shape \(2,\)"),
    ],
)
def test_bad_entries(row, col, value, match):
    value = None if value is None else np.array(value)
    with pytest.raises(ValueError, match=match):
        csr_matrix(np.array(row), np.array(col), value, SHAPE)


def test_bad_shapes():
    matrix, _ = random_matrix()
    with pytest.raises(ValueError, match=r"dense must have shape \(4, d\).*got \(5, 2\)"):
        spmm(matrix, torch.ones(5, 2))
    with pytest.raises(ValueError, match=r"got \(4,\)"):
        spmm(matrix, torch.ones(4))
    with pytest.raises(ValueError, match=r"transpose must have shape \(4, 5\), got \(5, 4\)"):
        spmm(matrix, torch.ones(4, 2), matrix)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    module = Holder()
    module().square().sum().backward()
    on_gpu = copy.deepcopy(module).to("cuda")
    on_gpu.zero_grad()
    out = on_gpu()
    out.square().sum().backward()
    torch.testing.assert_close(out.cpu(), module())
    torch.testing.assert_close(on_gpu.linear.weight.grad.cpu(), module.linear.weight.grad)


def test_shared_edges_are_the_entries_that_all_matrices_store_off_the_diagonal():
    first = csr_matrix(np.array([0, 0, 1, 2, 2]), np.array([0, 2, 0, 1, 0]), None, (3, 3))
    second = csr_matrix(np.array([2, 1, 0, 0]), np.array([1, 2, 2, 0]), np.zeros(4), (3, 3))
    assert shared_edges([first, second]).tolist() == [[0, 2], [2, 1]]
    assert shared_edges([first]).tolist() == [[0, 1, 2, 2], [2, 0, 0, 1]]


def test_largest_entries_are_those_of_either_matrix():
    first = csr_matrix(np.array([0, 0, 2]), np.array([1, 2, 0]), np.array([0.5, 0.2, -3.0]), (3, 3))
    second = csr_matrix(np.array([0, 1]), np.array([2, 2]), np.array([0.7, 0.1]), (3, 3))
    found = largest_entries([first, second]).to_dense().numpy()
    np.testing.assert_allclose(found, [[0, 0.5, 0.7], [0, 0, 0.1], [-3, 0, 0]])
