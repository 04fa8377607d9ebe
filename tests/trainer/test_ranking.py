import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm.data.tie_order import tie_order
from recbole_llm.trainer.ranking import rank_batch


def ids(*pairs):
    rows, items = zip(*pairs, strict=True) if pairs else ((), ())
    return torch.tensor(rows, dtype=torch.long), torch.tensor(items, dtype=torch.long)


SCORES = [
    [9.0, 1.0, 5.0, 3.0, 4.0],  # the padding item scores best and is never ranked
    [9.0, 8.0, 2.0, 7.0, 1.0],
]
PLACE = torch.arange(5)


def test_hand_made_scores():
    scores = torch.tensor(SCORES)
    items, top, hits, n_positives = rank_batch(
        scores, ids((0, 2), (1, 1)), *ids((0, 3), (1, 4), (0, 1)), k=2, place=PLACE
    )
    assert items.tolist() == [[4, 3], [3, 2]]
    assert top.tolist() == [[4.0, 3.0], [7.0, 2.0]]
    assert hits.tolist() == [[False, True], [False, False]]
    assert n_positives.tolist() == [2, 1]


def test_nothing_hidden():
    items, _, hits, _ = rank_batch(
        torch.tensor(SCORES), None, *ids((0, 2), (1, 3)), k=3, place=PLACE
    )
    assert items.tolist() == [[2, 4, 3], [1, 3, 2]]
    assert hits.tolist() == [[True, False, False], [False, True, False]]


def test_a_row_without_positives_has_no_hits():
    _, _, hits, n_positives = rank_batch(torch.tensor(SCORES), None, *ids((1, 1)), k=4, place=PLACE)
    assert hits.tolist() == [[False] * 4, [True, False, False, False]]
    assert n_positives.tolist() == [0, 1]
    _, _, hits, n_positives = rank_batch(torch.tensor(SCORES), None, *ids(), k=4, place=PLACE)
    assert not hits.any() and n_positives.tolist() == [0, 0]


def test_fewer_items_than_k_are_left():
    hidden = ids((0, 1), (0, 2), (0, 3))
    items, top, hits, _ = rank_batch(
        torch.tensor(SCORES), hidden, *ids((0, 4), (1, 1)), k=5, place=PLACE
    )
    assert items[0, 0] == 4
    assert torch.isinf(top[0, 1:]).all()
    assert hits[0].tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("place", [(0, 3), (1, 1)])
def test_nan_says_that_training_diverged(place):
    scores = torch.tensor(SCORES)
    scores[place] = torch.nan
    with pytest.raises(ValueError, match=r"NaN.*learning_rate"):
        rank_batch(scores, None, *ids((0, 1)), k=2, place=PLACE)


def test_nan_of_a_padding_or_hidden_item_does_not_matter():
    scores = torch.tensor(SCORES)
    scores[0, 0] = scores[1, 1] = torch.nan
    items, *_ = rank_batch(scores, ids((1, 1)), *ids((0, 1)), k=2, place=PLACE)
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
        torch.from_numpy(rng.permutation(n_items)),
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


# ---- ties


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 2**32 - 1), n_levels=st.integers(1, 4), k=st.integers(1, 12))
def test_equal_scores_come_in_the_order_of_their_places(seed, n_levels, k):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, n_levels, size=(4, 13)).astype(np.float32)
    place = rng.permutation(13)
    items, *_ = rank_batch(
        torch.from_numpy(scores.copy()), None, *ids(), k, torch.from_numpy(place)
    )
    for row in range(4):
        expected = sorted(range(1, 13), key=lambda item: (-scores[row, item], place[item]))
        assert items[row].tolist() == expected[:k]


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), n_levels=st.integers(1, 6))
def test_a_list_is_the_beginning_of_every_longer_one(seed, n_levels):
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.integers(0, n_levels, size=(5, 30)).astype(np.float32))
    place = tie_order([f"i{n}" for n in range(30)])
    longest, *_ = rank_batch(scores.clone(), None, *ids(), 29, place)
    for k in range(1, 29):
        items, *_ = rank_batch(scores.clone(), None, *ids(), k, place)
        assert torch.equal(items, longest[:, :k])


def test_internal_ids_and_batches_decide_nothing():
    rng = np.random.default_rng(0)
    tokens = np.array([f"i{n}" for n in range(40)])
    scores = rng.integers(0, 3, size=(6, 40)).astype(np.float32)
    items, *_ = rank_batch(torch.from_numpy(scores.copy()), None, *ids(), 10, tie_order(tokens))
    named = tokens[items]
    order = np.concatenate([[0], 1 + rng.permutation(39)])  # another order of the same file
    others, *_ = rank_batch(
        torch.from_numpy(scores[:, order].copy()), None, *ids(), 10, tie_order(tokens[order])
    )
    assert (tokens[order][others] == named).all()
    for row in range(6):
        alone, *_ = rank_batch(
            torch.from_numpy(scores[row : row + 1].copy()), None, *ids(), 10, tie_order(tokens)
        )
        assert (tokens[alone[0]] == named[row]).all()


def test_a_constant_model_has_the_recall_of_a_random_one():
    """Recall@20 of 2,000 items is 1 % in expectation, whatever is popular or first in the file."""
    rng = np.random.default_rng(0)
    n_items, n_users = 2001, 4000
    place = tie_order([f"item{n}" for n in range(n_items)])
    popular = 1 + np.minimum(rng.zipf(1.3, n_users) - 1, n_items - 2)  # items of low id
    for target in (popular, rng.integers(1, n_items, n_users)):
        scores = torch.zeros(1, n_items)
        items, *_ = rank_batch(scores, None, *ids(), 20, place)
        recall = np.isin(np.unique(target), items[0].numpy()).mean()
        assert recall == pytest.approx(0.01, abs=0.01)


def test_hidden_items_are_listed_last_and_no_tie_brings_them_back():
    scores = torch.zeros(1, 6)
    place = torch.tensor([0, 3, 1, 2, 5, 4])
    items, top, *_ = rank_batch(scores, ids((0, 2)), *ids(), 5, place)
    assert items[0, :4].tolist() == [3, 1, 5, 4]
    assert torch.isinf(top[0, 4:]).all()
