import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm.graph.knn import knn_graph

Edges = list[tuple[int, int]]


def reference(
    feature: np.ndarray, k: int, include_self: bool, order: np.ndarray
) -> tuple[Edges, list[float]]:
    """Rank every pair in float64; equal rows get one and the same similarity."""
    distinct, member = np.unique(feature.astype(np.float64), axis=0, return_inverse=True)
    norm = np.linalg.norm(distinct, axis=1)
    unit = distinct / np.where(norm > 0, norm, 1)[:, None]
    cosine = (unit @ unit.T)[np.ix_(member, member)]
    usable = (norm > 0)[member]
    usable[0] = False
    edges, similarity = [], []
    for i in np.flatnonzero(usable):
        others = [j for j in np.flatnonzero(usable) if j != i]
        ranked = sorted(others, key=lambda j: (-cosine[i, j], order[j]))
        ranked = ([i, *ranked] if include_self else ranked)[:k]
        edges += [(int(i), int(j)) for j in ranked]
        similarity += [float(cosine[i, j]) for j in ranked]
    return edges, similarity


def assert_matches_reference(
    feature: np.ndarray,
    k: int,
    block: int,
    include_self: bool = False,
    order: np.ndarray | None = None,
) -> None:
    given_order = None if order is None else torch.from_numpy(order)
    graph = knn_graph(
        torch.from_numpy(feature), k, block, include_self=include_self, tie_order=given_order
    )
    order = np.arange(len(feature)) if order is None else order
    edges, similarity = reference(feature, k, include_self, order)
    assert graph.edge_index.dtype is torch.int64
    assert graph.edge_index.shape == (2, len(edges))
    assert graph.similarity.dtype is torch.float32
    assert [tuple(e) for e in graph.edge_index.T.tolist()] == edges
    np.testing.assert_allclose(graph.similarity.numpy(), similarity, atol=1e-6)
    assert graph.similarity.abs().max() <= 1 if len(edges) else True


def test_hand_worked():
    feature = torch.tensor([[9.0, 9.0], [1.0, 0.0], [2.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
    graph = knn_graph(feature, 2)
    assert graph.edge_index.tolist() == [[1, 1, 2, 2, 4, 4], [2, 4, 1, 4, 1, 2]]
    expected = torch.tensor([1, 0.6, 1, 0.6, 0.6, 0.6])
    torch.testing.assert_close(graph.similarity, expected)


@pytest.mark.parametrize("block", [1, 7, 59, 60, 61, 1024])
@pytest.mark.parametrize("k", [1, 5, 59])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_blocks_match_float64(block, k, dtype):
    rng = np.random.default_rng(0)
    feature = (10 * rng.normal(size=(60, 8))).astype(dtype)
    feature[[13, 40]] = 0
    assert_matches_reference(feature, k, block)
    assert_matches_reference(feature, k, block, include_self=True)


# Rows are drawn from few directions, so that most rankings are decided by ties.
POOL = np.random.default_rng(3).normal(size=(4, 5)).astype(np.float32)
POOL[0] = 0


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=24),
    st.integers(1, 23),
    st.integers(1, 9),
    st.booleans(),
    st.integers(0, 9) | st.none(),
)
def test_ties_follow_the_order(member, k, block, include_self, seed):
    k = min(k, len(member) - 1)
    order = None if seed is None else np.random.default_rng(seed).permutation(len(member))
    assert_matches_reference(POOL[member], k, block, include_self, order)


def test_copies_are_counted():
    # rows 1, 3 and 5 have one direction, as far as float32 tells; rows without one are no copies
    feature = torch.tensor([[1, 2], [1, 2], [2, 1], [2, 4], [0, 0], [4, 8], [0, 0]]).float()
    assert knn_graph(feature, 2).n_copies == 3  # row 0 is the first of that direction
    assert knn_graph(feature[1:], 2).n_copies == 2
    assert knn_graph(torch.eye(5), 2).n_copies == 0


def test_ties_in_a_graph_larger_than_the_block():
    rng = np.random.default_rng(0)
    feature = rng.normal(size=(120, 33)).astype(np.float32)
    copies = rng.permutation(np.arange(1, 120))[:50]
    feature[copies] = feature[copies[0]]
    for block in (1, 50, 119):
        assert_matches_reference(feature, 10, block)
        assert_matches_reference(feature, 10, block, include_self=True)


def test_scaling_rows_changes_nothing():
    feature = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    scale = 2.0 ** torch.arange(-20, 20)[:, None]  # powers of two: no rounding
    graph, scaled = knn_graph(feature, 4, 16), knn_graph(feature * scale, 4, 16)
    assert torch.equal(graph.edge_index, scaled.edge_index)
    assert torch.equal(graph.similarity, scaled.similarity)


def test_large_float16_values_do_not_overflow():
    feature = np.full((4, 3), 60000, dtype=np.float16)
    feature[3, 0] = -60000
    assert_matches_reference(feature, 1, 2)


def test_nobody_qualifies():
    graph = knn_graph(torch.zeros(4, 3), 2)
    assert graph.edge_index.shape == (2, 0)
    assert graph.similarity.shape == (0,)


def test_feature_is_left_alone():
    feature = torch.randn(20, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    before = feature.detach().clone()
    assert not knn_graph(feature, 3).similarity.requires_grad
    assert torch.equal(feature.detach(), before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_names_the_first_row_that_is_not_finite(bad):
    feature = torch.ones(10, 3)
    feature[[7, 9], 1] = bad
    with pytest.raises(ValueError, match=r"first in row 7 \(2 of 10 rows\)"):
        knn_graph(feature, 2, block=4)


@pytest.mark.parametrize("k", [0, -1, 5, 6])
def test_k_out_of_range(k):
    with pytest.raises(ValueError, match=f"1 <= k < 5, the number of feature rows, got k={k}"):
        knn_graph(torch.ones(5, 3), k)


def test_bad_feature_and_block():
    with pytest.raises(ValueError, match=r"matrix \(V, F\), got shape \(5,\)"):
        knn_graph(torch.ones(5), 1)
    with pytest.raises(ValueError, match="of torch.int64"):
        knn_graph(torch.ones(5, 2, dtype=torch.int64), 1)
    with pytest.raises(ValueError, match="block must be at least 1, got block=0"):
        knn_graph(torch.ones(5, 2), 1, block=0)
    with pytest.raises(ValueError, match=r"tie_order must have 5 numbers, .* got shape \(4,\)"):
        knn_graph(torch.ones(5, 2), 1, tie_order=torch.arange(4))


def test_memory_stays_linear():
    # The 20,000 x 20,000 cosine matrix alone would take 1,600 MB; a block of it takes 80 MB.
    code = """
import resource, torch
from recbole_llm.graph.knn import knn_graph
peak_mb = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
feature = torch.randn(20_000, 8).half()
before = peak_mb()
knn_graph(feature, 10)
print(peak_mb() - before)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 400


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    feature = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    cpu, gpu = knn_graph(feature, 5, 128), knn_graph(feature.cuda(), 5, 128)
    assert torch.equal(gpu.edge_index.cpu(), cpu.edge_index)
    torch.testing.assert_close(gpu.similarity.cpu(), cpu.similarity)
