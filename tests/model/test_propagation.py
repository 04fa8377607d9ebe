"""The operators over users that models share, against dense numpy."""

import numpy as np
import pytest
import torch
from dense import incidence, softmax, write_toy

from recbole_llm.model.propagation import user_neighbour_operator


@pytest.mark.parametrize("k", [1, 2, 9])
def test_neighbours_of_users_weigh_a_softmax_of_their_common_training_items(world, k):
    write_toy(world)
    bench = world.bench("LightGCN", protocol="loo")
    interactions = incidence(bench)
    common = interactions @ interactions.T
    np.fill_diagonal(common, 0)
    n_users, dim = len(common), 3
    rng = np.random.default_rng(0)
    table = rng.normal(size=(n_users, dim))
    found = user_neighbour_operator(bench.split.train, k)
    expected = np.zeros((n_users, dim))
    for user, counts in enumerate(common):
        chosen = found.matrix.to_dense()[user].nonzero().flatten().numpy()
        others = np.flatnonzero(counts)
        assert len(chosen) == min(k, len(others)) and set(chosen) <= set(others)
        if len(chosen):
            # nobody who is left out has more items in common
            assert counts[chosen].min() >= np.delete(counts, chosen).max()
            expected[user] = softmax(counts[chosen]) @ table[chosen]
    result = found(torch.from_numpy(table).float())
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-6)
    assert (common.sum(axis=1) == 0).sum() == 2  # padding, and the user with an item of their own
