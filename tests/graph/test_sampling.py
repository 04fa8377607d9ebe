import numpy as np
import pytest
import torch

from recbole_llm.graph.sampling import NegativeItems, sample_edges


@pytest.mark.parametrize("n_kept", [0, 1, 7, 19, 20])
def test_positions_are_distinct_and_ascending_and_as_many_as_asked_for(n_kept):
    torch.manual_seed(0)
    chosen = sample_edges(torch.rand(20) + 0.1, n_kept)
    assert chosen.dtype == torch.int64
    assert len(chosen) == n_kept
    assert (chosen.diff() > 0).all()
    assert set(chosen.tolist()) <= set(range(20))


def test_nothing_to_draw_from():
    assert sample_edges(torch.ones(0), 0).tolist() == []


def test_all_kept_is_every_position():
    assert sample_edges(torch.tensor([1e-3, 1.0, 1e3]), 3).tolist() == [0, 1, 2]


def test_one_of_two_is_drawn_in_proportion_to_its_weight():
    torch.manual_seed(0)
    n_draws, weight = 4000, torch.tensor([1.0, 3.0])
    share = np.mean([sample_edges(weight, 1).item() for _ in range(n_draws)])
    # four standard deviations of the binomial
    assert abs(share - 3 / 4) < 4 * np.sqrt(3 / 4 * 1 / 4 / n_draws)


def test_later_draws_are_in_proportion_to_the_weights_left():
    torch.manual_seed(0)
    n_draws, weight = 4000, torch.tensor([1.0, 2.0, 3.0])
    left_out = np.array([6 - 3 - sample_edges(weight, 2).sum().item() for _ in range(n_draws)])
    # {i, j} is drawn as i then j or j then i: w_i / 6 * w_j / (6 - w_i) and the other way round
    expected = {
        2: 1 / 6 * 2 / 5 + 2 / 6 * 1 / 4,
        1: 1 / 6 * 3 / 5 + 3 / 6 * 1 / 3,
        0: 2 / 6 * 3 / 4 + 3 / 6 * 2 / 3,
    }
    assert sum(expected.values()) == pytest.approx(1.0)
    for position, share in expected.items():
        bound = 4 * np.sqrt(share * (1 - share) / n_draws)
        assert abs((left_out == position).mean() - share) < bound


def test_follows_torchs_seed():
    weight = torch.rand(200) + 0.1
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(sample_edges(weight, 50))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_negatives_are_uniform_over_the_items_that_a_user_does_not_have():
    # 7 items and padding: user 1 has 1, 2, 5 (once given twice), user 2 has none, user 3 has 7
    user, item = np.array([1, 1, 3, 1, 1]), np.array([5, 1, 7, 2, 5])
    negatives = NegativeItems(user, item, 4, 8)
    torch.manual_seed(0)
    n_draws = 7000
    drawn = negatives.draw(torch.tensor([3, 1, 2, 1]), n_draws)
    assert drawn.shape == (4, n_draws) and drawn.dtype == torch.int64
    every = [{1, 2, 3, 4, 5, 6}, {3, 4, 6, 7}, {1, 2, 3, 4, 5, 6, 7}, {3, 4, 6, 7}]
    for row, free in zip(drawn, every, strict=True):
        counts = np.bincount(row, minlength=8)
        assert set(np.flatnonzero(counts).tolist()) == free
        share = 1 / len(free)
        bound = 4 * np.sqrt(share * (1 - share) * n_draws)
        assert (abs(counts[list(free)] - share * n_draws) < bound).all()
    assert not torch.equal(drawn[1], drawn[3])


def test_a_user_who_has_every_item_gets_the_last():
    negatives = NegativeItems(np.array([1, 1]), np.array([1, 2]), 2, 3)
    assert negatives.draw(torch.tensor([1]), 3).tolist() == [[2, 2, 2]]
