"""Neighbour tables against hand-made graphs and a loop over Python lists."""

import numpy as np
import pytest
import torch

from recbole_llm.graph.neighbours import NeighbourTable, edge_priority

# users 1..3, items 1..4
ROW = np.array([1, 1, 2, 2, 3, 2])
COL = np.array([4, 1, 1, 2, 2, 1])  # (2, 1) twice
PRIORITY = np.array([5, 9, 3, 1, 7, 3], dtype=np.uint64)


def tables():
    return NeighbourTable.both(ROW, COL, PRIORITY, 4, 5)


def none(nodes):
    return torch.zeros_like(nodes)


def test_rows_by_hand():
    items_of, users_of = tables()
    nodes = torch.tensor([0, 1, 2, 3])
    found = items_of.draw(nodes, 2, exclude=none(nodes), random=False)
    assert found.tolist() == [[0, 0, 0], [4, 1, 0], [2, 1, 0], [2, 0, 0]]
    nodes = torch.tensor([1, 2, 3, 4])
    found = users_of.draw(nodes, 1, exclude=none(nodes), random=False)
    assert found.tolist() == [[2, 0], [2, 0], [0, 0], [1, 0]]


def test_the_excluded_neighbour_makes_room_for_the_next():
    users_of = tables()[1]
    nodes = torch.tensor([[1, 2], [4, 0]])
    found = users_of.draw(nodes, 1, exclude=torch.tensor([[2], [1]]), random=False)
    assert found.tolist() == [[[0, 1], [0, 3]], [[0, 0], [0, 0]]]


def test_random_draws_are_distinct_neighbours_each_as_likely_as_any_other():
    col = np.arange(1, 8)
    table = NeighbourTable(np.ones(7, dtype=int), col, col.astype(np.uint64), 2)
    nodes = torch.ones(4000, dtype=torch.long)
    torch.manual_seed(0)
    found = table.draw(nodes, 3, exclude=torch.tensor(5), random=True)
    for row in found.tolist():
        drawn = [node for node in row if node]
        assert len(drawn) == len(set(drawn)) == 3 and 5 not in drawn
    share = torch.bincount(found.flatten(), minlength=8)[1:] / len(nodes)
    assert share[4] == 0
    # 3 of 6, within what a gap in the row and 4,000 draws leave
    np.testing.assert_allclose(share[[0, 1, 2, 3, 5, 6]], 0.5, atol=0.1)
    whole = NeighbourTable(np.ones(7, dtype=int), col, col.astype(np.uint64), 2)
    found = whole.draw(nodes, 3, exclude=torch.tensor(0), random=True)
    share = torch.bincount(found.flatten(), minlength=8)[1:] / len(nodes)
    np.testing.assert_allclose(share, 3 / 7, atol=0.04)


def test_a_node_with_few_neighbours_gives_them_all():
    items_of = tables()[0]
    nodes = torch.tensor([1, 2])
    found = items_of.draw(nodes, 8, exclude=none(nodes), random=True)
    assert [sorted(set(row) - {0}) for row in found.tolist()] == [[1, 4], [1, 2]]


@pytest.mark.parametrize("random", [True, False])
def test_without_edges_nothing_is_drawn(random):
    empty = np.zeros(0, dtype=np.int64)
    table = NeighbourTable(empty, empty, empty.astype(np.uint64), 3)
    nodes = torch.tensor([1, 2])
    assert not table.draw(nodes, 2, exclude=none(nodes), random=random).any()


def test_priorities_do_not_depend_on_numbering_and_spread():
    rng = np.random.default_rng(0)
    row_key, col_key = rng.integers(0, 1 << 32, (2, 5000))
    priority = edge_priority(row_key, col_key)
    order = rng.permutation(5000)
    assert (edge_priority(row_key[order], col_key[order]) == priority[order]).all()
    assert len(np.unique(priority)) == 5000
    same_row = edge_priority(np.ones(5000, dtype=int), np.arange(5000)) / 2.0**64
    np.testing.assert_allclose(np.histogram(same_row, 10, (0, 1))[0], 500, atol=100)
    assert (edge_priority(col_key, row_key) != priority).all()
