"""Purification, the views and their fusion against dense float64 numpy, node by node."""

import numpy as np
import pytest
import torch
from dense import (
    affine,
    assert_forward,
    assert_loss_and_gradients,
    assert_needs_modalities,
    batch,
    bipartite,
    bpr,
    by_degrees,
    contents,
    contrast,
    cosines_of,
    features,
    fuse_by_preference,
    half_squares,
    ids,
    incidence,
    maker,
    mean_of_layers,
    neighbours,
    sigmoid,
    tables,
    weights,
    write_toy,
)

SETTINGS = {
    "protocol": "loo",
    "embedding_size": 6,
    "n_layers": 2,
    "n_item_layers": 2,
    "knn_k": 4,
    "cl_weight": 0.3,
    "temperature": 0.4,
    "reg_weight": 0.05,
}
factory = maker("MGCN", SETTINGS)


def views_in_numpy(w, bench):
    """Return the behaviour view, the fused content view, and attention over modalities."""
    interactions = incidence(bench)
    n_users = len(interactions)
    adjacency = bipartite(interactions)
    behaviour = mean_of_layers(adjacency, tables(w), SETTINGS["n_layers"])
    views, now = {}, contents(w, bench)
    for name, feature in features(bench).items():  # the graphs are those of the raw features
        hidden = affine(w, f"project.{name}", now[name])
        item_h = w["item_embedding.weight"] * sigmoid(affine(w, f"purify.{name}.0", hidden))
        graph = by_degrees(cosines_of(neighbours(feature, SETTINGS["knn_k"]), feature))
        item_h = np.linalg.matrix_power(graph, SETTINGS["n_item_layers"]) @ item_h
        views[name] = np.concatenate([adjacency[:n_users, n_users:] @ item_h, item_h])

    return behaviour, *fuse_by_preference(w, behaviour, views)


def loss_in_numpy(w, bench, interaction):
    behaviour, fused, _ = views_in_numpy(w, bench)
    out = behaviour + fused
    user, pos, neg = ids(interaction)
    n_users = bench.model.n_users
    batch_rows = out[user], out[n_users + pos], out[n_users + neg]
    loss = bpr(*batch_rows) + SETTINGS["reg_weight"] * half_squares(*batch_rows)
    for nodes in (user, n_users + pos):
        part = contrast(fused[nodes], behaviour[nodes], SETTINGS["temperature"])
        loss += SETTINGS["cl_weight"] * part
    return loss


@pytest.mark.parametrize("n_modalities", [1, 2, 3])
def test_forward_equals_dense_numpy(factory, world, n_modalities):
    write_toy(world, n_modalities)
    bench = factory()
    behaviour, fused, attention = views_in_numpy(weights(bench.model), bench)
    for found, expected in zip(bench.model.views(), (behaviour, fused), strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected, atol=3e-6)
    assert_forward(bench, behaviour + fused)
    np.testing.assert_allclose(attention.sum(axis=1), 1.0)
    if n_modalities > 1:
        assert attention.std(axis=0).min() > 1e-3  # nodes attend differently


def test_loss_and_gradients_equal_dense_numpy(factory):
    bench = factory()
    interaction = batch(bench)
    assert_loss_and_gradients(bench, interaction, lambda w: loss_in_numpy(w, bench, interaction))


def test_trained_features_have_right_gradients(factory):
    bench = factory(train_features=True)
    interaction = batch(bench)
    assert_loss_and_gradients(bench, interaction, lambda w: loss_in_numpy(w, bench, interaction))
    assert all(bench.model.features[name].grad.any() for name in features(bench))


def test_one_modality_has_nothing_but_what_is_common(factory, world):
    # its attention is 1, so the preference has no part, and half of it is added
    write_toy(world, 1)
    model = factory().model
    before = model.views().content
    with torch.no_grad():
        for weight in [*model.prefer.parameters(), *model.attention.parameters()]:
            weight.normal_()
    torch.testing.assert_close(model.views().content, before)


def test_training_is_deterministic_as_evaluation_is(factory):
    bench = factory()
    model, interaction = bench.model.train(), batch(bench)
    assert torch.equal(model.calculate_loss(interaction), model.calculate_loss(interaction))
    for first, second in zip(model.train()(), model.eval()(), strict=True):
        assert torch.equal(first, second)


def test_no_modality_is_an_error_that_says_what_to_do(world):
    assert_needs_modalities(world, "MGCN")
