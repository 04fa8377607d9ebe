"""The graph of users with common items, by hand and against sets of items."""

import numpy as np
import pytest
import torch

from recbole_llm.graph import common_items
from recbole_llm.graph.common_items import user_user_graph

N_USERS, N_ITEMS = 31, 12


@pytest.fixture
def edges():
    rng = np.random.default_rng(0)
    user, item = rng.integers(1, N_USERS - 1, 150), rng.integers(1, N_ITEMS, 150)
    # some twice; the last user has an item of their own
    return np.r_[user, user[:9], N_USERS - 1], np.r_[item, item[:9], N_ITEMS]


def by_sets(user, item, k, place):
    """Return the edges and counts of each user's first k others by falling count, then place."""
    taken = [set(item[user == u].tolist()) for u in range(N_USERS)]
    found = []
    for u in range(N_USERS):
        others = [v for v in range(N_USERS) if v != u and taken[u] & taken[v]]
        others.sort(key=lambda v: (-len(taken[u] & taken[v]), place[v]))
        found += [(u, v, len(taken[u] & taken[v])) for v in others[:k]]
    return found


def listed(graph):
    source, target = graph.edge_index.tolist()
    return list(zip(source, target, graph.n_common.tolist(), strict=True))


def test_by_hand():
    # users 1 and 2 share two items, 1 and 3 one (taken twice by 3), 4 has an item of their own
    user, item = [1, 1, 2, 2, 2, 3, 3, 4], [1, 2, 1, 2, 3, 1, 1, 4]
    graph = user_user_graph(np.array(user), np.array(item), 5, 5, k=2)
    assert listed(graph) == [(1, 2, 2), (1, 3, 1), (2, 1, 2), (2, 3, 1), (3, 1, 1), (3, 2, 1)]
    assert graph.edge_index.dtype is torch.int64 and graph.n_common.dtype is torch.float32
    graph = user_user_graph(torch.tensor(user), torch.tensor(item), 5, 5, k=1)
    assert listed(graph) == [(1, 2, 2), (2, 1, 2), (3, 1, 1)]
    # of equal counts the user of lower place is kept
    graph = user_user_graph(np.array(user), np.array(item), 5, 5, 1, np.array([0, 4, 1, 3, 2]))
    assert listed(graph)[-1] == (3, 2, 1)


@pytest.mark.parametrize("k", [1, 3, 50])
@pytest.mark.parametrize("pairs", [1, 40, 2**22])
def test_equals_sets_of_items_however_many_users_are_compared_at_a_time(
    edges, k, pairs, monkeypatch
):
    monkeypatch.setattr(common_items, "_PAIRS", pairs)
    for place in (np.arange(N_USERS), np.random.default_rng(1).permutation(N_USERS)):
        graph = user_user_graph(*edges, N_USERS, N_ITEMS + 1, k, place)
        assert listed(graph) == by_sets(*edges, k, place)


def test_with_a_place_of_their_own_users_keep_their_neighbours_under_other_ids(edges):
    rng = np.random.default_rng(2)
    renamed = np.r_[0, rng.permutation(np.arange(1, N_USERS))]  # new id of each user
    place = rng.permutation(N_USERS)
    graph = user_user_graph(*edges, N_USERS, N_ITEMS + 1, 3, place)
    other_place = np.empty_like(place)
    other_place[renamed] = place
    user, item = edges
    other = user_user_graph(renamed[user], item, N_USERS, N_ITEMS + 1, 3, other_place)
    expected = [(renamed[u], renamed[v], count) for u, v, count in listed(graph)]
    assert sorted(listed(other)) == sorted(expected)


def test_without_interactions_there_are_no_edges():
    none = np.zeros(0, dtype=np.int64)
    graph = user_user_graph(none, none, 4, 4, k=2)
    assert graph.edge_index.shape == (2, 0) and graph.n_common.shape == (0,)


def test_k_below_one(edges):
    with pytest.raises(ValueError, match="user_k, .* at least 1, got 0"):
        user_user_graph(*edges, N_USERS, N_ITEMS + 1, k=0)
