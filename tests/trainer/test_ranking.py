import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm.trainer.ranking import rank_batch


def ids(*pairs):
    rows, items = zip(*pairs, strict=True) if pairs else ((), ())
    return torch.tensor(rows, dtype=torch.long), torch.tensor(items, dtype=torch.long)


SCORES = [
    [9.0, 1.0, 5.0, 3.0, 4.0],  # the padding item scores best and is never ranked
    [9.0, 8.0, 2.0, 7.0, 1.0],
]


def test_hand_made_scores():
    scores = torch.tensor(SCORES)
    items, top, hits, n_positives = rank_batch(
        scores, ids((0, 2), (1, 1)), *ids((0, 3), (1, 4), (0, 1)), k=2
    )
    assert items.tolist() == [[4, 3], [3, 2]]
    assert top.tolist() == [[4.0, 3.0], [7.0, 2.0]]
    assert hits.tolist() == [[False, True], [False, False]]
    assert n_positives.tolist() == [2, 1]


def test_nothing_hidden():
    items, _, hits, _ = rank_batch(torch.tensor(SCORES), None, *ids((0, 2), (1, 3)), k=3)
    assert items.tolist() == [[2, 4, 3], [1, 3, 2]]
    assert hits.tolist() == [[True, False, False], [False, True, False]]


def test_a_row_without_positives_has_no_hits():
    _, _, hits, n_positives = rank_batch(torch.tensor(SCORES), None, *ids((1, 1)), k=4)
    assert hits.tolist() == [[False] * 4, [True, False, False, False]]
    assert n_positives.tolist() == [0, 1]
    _, _, hits, n_positives = rank_batch(torch.tensor(SCORES), None, *ids(), k=4)
    assert not hits.any() and n_positives.tolist() == [0, 0]


def test_fewer_items_than_k_are_left():
    hidden = ids((0, 1), (0, 2), (0, 3))
    items, top, hits, _ = rank_batch(torch.tensor(SCORES), hidden, *ids((0, 4), (1, 1)), k=5)
    assert items[0, 0] == 4
    assert torch.isinf(top[0, 1:]).all()
    assert hits[0].tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("place", [(0, 3), (1, 1)])
def test_nan_says_that_training_diverged(place):
    scores = torch.tensor(SCORES)
    scores[place] = torch.nan
    with pytest.raises(ValueError, match=r"NaN.*learning_rate"):
        rank_batch(scores, None, *ids((0, 1)), k=2)


def test_nan_of_a_padding_or_hidden_item_does_not_matter():
    scores = torch.tensor(SCORES)
    scores[0, 0] = scores[1, 1] = torch.nan
    items, *_ = rank_batch(scores, ids((1, 1)), *ids((0, 1)), k=2)
    assert items.tolist() == [[2, 4], [3, 2]]


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), n_rows=st.integers(1, 6), n_items=st.integers(2, 20))
def test_equals_a_sort_of_each_row(seed, n_rows, n_items):
    rng = np.random.default_rng(seed)
    scores = rng.permutation(n_rows * n_items).reshape(n_rows, n_items).astype(np.float32)
    hidden, positive = rng.random((2, n_rows, n_items)) < 0.3
    hidden[:, 0] = positive[:, 0] = False
    hidden &= ~positive
    k = int(rng.integers(1, n_items + 1))
    items, top, hits, n_positives = rank_batch(
        torch.from_numpy(scores.copy()),
        tuple(torch.from_numpy(x) for x in hidden.nonzero()),
        *(torch.from_numpy(x) for x in positive.nonzero()),
        k,
    )
    assert n_positives.tolist() == positive.sum(axis=1).tolist()
    for row in range(n_rows):
        allowed = [item for item in range(1, n_items) if not hidden[row, item]]
        best = sorted(allowed, key=lambda item: -scores[row, item])[:k]
        n = len(best)
        assert items[row, :n].tolist() == best
        assert top[row, :n].tolist() == [scores[row, item] for item in best]
        assert hits[row, :n].tolist() == [bool(positive[row, item]) for item in best]
        assert torch.isinf(top[row, n:]).all() and not hits[row, n:].any()
