import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm.graph import segment
from recbole_llm.graph.segment import segment_softmax, segment_sum

INDEX = torch.tensor([2, 0, 2, 2, 4])  # segments 1 and 3 are empty
N_SEGMENTS = 5


@pytest.fixture
def native(monkeypatch):
    """Keep torch_scatter out, where it is installed."""
    monkeypatch.setattr(segment, "_torch_scatter", lambda: None)


def random_src(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(len(INDEX), *shape, dtype=torch.float64, generator=generator)


@pytest.mark.usefixtures("native")
def test_hand_worked():
    src = torch.tensor([1.0, 5.0, 2.0, 6.0, 7.0])
    assert segment_sum(src, INDEX, N_SEGMENTS).tolist() == [5, 0, 9, 0, 7]
    weight = segment_softmax(torch.log(src), INDEX, N_SEGMENTS)
    torch.testing.assert_close(weight, torch.tensor([1 / 9, 1, 2 / 9, 6 / 9, 1]))


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_loops_agree(shape):
    src = random_src(*shape)
    total, weight = np.zeros((N_SEGMENTS, *shape)), np.zeros(src.shape)
    for s in set(INDEX.tolist()):
        rows = src.numpy()[INDEX.numpy() == s]
        total[s] = rows.sum(0)
        weight[INDEX.numpy() == s] = np.exp(rows) / np.exp(rows).sum(0)
    np.testing.assert_allclose(segment_sum(src, INDEX, N_SEGMENTS).numpy(), total)
    np.testing.assert_allclose(segment_softmax(src, INDEX, N_SEGMENTS).numpy(), weight)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=20), st.integers(0, 2**32 - 1))
def test_softmax_sums_to_one_in_segments_that_have_rows(index, seed):
    rows = torch.tensor(index, dtype=torch.int64)
    generator = torch.Generator().manual_seed(seed)
    scores = 50 * torch.randn(len(index), 2, generator=generator)
    total = segment_sum(segment_softmax(scores, rows, 7), rows, 7)
    expected = [[float(s in index)] * 2 for s in range(7)]
    torch.testing.assert_close(total, torch.tensor(expected))


@pytest.mark.usefixtures("native")
def test_softmax_is_stable():
    scores = torch.tensor([1e4, -1e4, 1e4, -1e4, -1e4])
    assert segment_softmax(scores, INDEX, N_SEGMENTS).tolist() == [0.5, 1, 0.5, 0, 1]


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("reduce", [segment_sum, segment_softmax])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_gradients(reduce, shape):
    src = random_src(*shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda src: reduce(src, INDEX, N_SEGMENTS), src)


@pytest.mark.parametrize("reduce", [segment_sum, segment_softmax])
def test_order_of_rows_does_not_matter(reduce):
    src, order = random_src(3), torch.tensor([3, 1, 4, 0, 2])
    expected = reduce(src, INDEX, N_SEGMENTS)
    if reduce is segment_softmax:
        expected = expected[order]
    torch.testing.assert_close(reduce(src[order], INDEX[order], N_SEGMENTS), expected)


@pytest.mark.parametrize("reduce", [segment_sum, segment_softmax])
def test_index_of_another_length(reduce):
    with pytest.raises(ValueError, match=r"index must have shape \(5,\).*got \(1,\)"):
        reduce(random_src(2), INDEX[:1], N_SEGMENTS)


@pytest.mark.parametrize("reduce", [segment_sum, segment_softmax])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_native_equals_torch_scatter(monkeypatch, reduce, shape):
    pytest.importorskip("torch_scatter")
    src = random_src(*shape)
    scattered = reduce(src, INDEX, N_SEGMENTS)
    monkeypatch.setattr(segment, "_torch_scatter", lambda: None)
    torch.testing.assert_close(reduce(src, INDEX, N_SEGMENTS), scattered)
