"""Routing, the refined graph and the loss against dense float64 numpy."""

import numpy as np
import pytest
from dense import (
    affine,
    assert_forward,
    assert_loss_and_gradients,
    assert_needs_modalities,
    batch,
    bpr,
    features,
    ids,
    incidence,
    maker,
    tables,
    unit,
    weights,
)

SETTINGS = {
    "protocol": "loo",
    "embedding_size": 6,
    "n_routings": 2,
    "n_layers": 2,
    "reg_weight": 0.3,
}
factory = maker("GRCN", SETTINGS)


def softmax_over(edges, score):
    """Return a softmax over each row's edges; a row without any is zero."""
    exp = np.where(edges > 0, np.exp(score), 0)
    total = exp.sum(axis=1, keepdims=True)
    return np.divide(exp, total, out=np.zeros_like(exp), where=total > 0)


def forward_in_numpy(w, bench, n_routings=SETTINGS["n_routings"]):
    interactions = incidence(bench)
    n_users, n_items = interactions.shape
    adjacency = np.zeros((n_users + n_items, n_users + n_items))  # [to, from]
    adjacency[:n_users, n_users:], adjacency[n_users:, :n_users] = interactions, interactions.T
    contents, edge_weights = [], []
    for place, (name, feature) in enumerate(features(bench).items()):
        hidden = affine(w, f"project.{name}", feature)
        item_h = unit(np.where(hidden > 0, hidden, 0.01 * hidden))
        user_h = unit(w[f"preference.{name}.weight"])
        for _ in range(n_routings):
            user_h = unit(user_h + softmax_over(interactions, user_h @ item_h.T) @ item_h)
        nodes = np.concatenate([user_h, item_h])
        attention = softmax_over(adjacency, nodes @ nodes.T)
        contents.append(nodes + attention @ nodes)
        confidence = np.concatenate([w["user_confidence.weight"], w["item_confidence.weight"]])
        edge_weights.append(attention * confidence[:, place])  # of the node that sends
    refined = np.maximum(np.max(edge_weights, axis=0), 0)
    hidden = unit(tables(w))
    layers = [np.linalg.matrix_power(refined, n) @ hidden for n in range(SETTINGS["n_layers"] + 1)]
    return np.concatenate([sum(layers), *contents], axis=1)


def loss_in_numpy(w, bench, interaction):
    out = forward_in_numpy(w, bench)
    user, pos, neg = ids(interaction)
    n_users = bench.model.n_users
    loss = bpr(out[user], out[n_users + pos], out[n_users + neg])
    items = np.concatenate([pos, neg])
    squares = [w["user_embedding.weight"][user] ** 2, w["item_embedding.weight"][items] ** 2]
    squares += [w[f"preference.{name}.weight"][user] ** 2 for name in features(bench)]
    return loss + SETTINGS["reg_weight"] * sum(square.mean() for square in squares)


@pytest.mark.parametrize("n_routings", [0, 1, 2])
def test_forward_equals_dense_numpy(factory, n_routings):
    bench = factory(n_routings=n_routings)
    w = weights(bench.model)
    assert_forward(bench, forward_in_numpy(w, bench, n_routings))
    refined = bench.model.edge_weight([bench.model.content(*f)[1] for f in features_of(bench)])
    assert 0 < (refined == 0).sum() < len(refined)  # some edges are pruned


def features_of(bench):
    return bench.model.features.items()


def test_loss_and_gradients_equal_dense_numpy(factory):
    bench = factory()
    interaction = batch(bench)
    assert_loss_and_gradients(bench, interaction, lambda w: loss_in_numpy(w, bench, interaction))


def test_no_modality_is_an_error_that_says_what_to_do(world):
    assert_needs_modalities(world, "GRCN")
