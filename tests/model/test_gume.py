"""Links, explicit and extended views, and the five losses against dense float64 numpy."""

import numpy as np
import pytest
import torch
from dense import (
    affine,
    assert_forward,
    assert_loss_and_gradients,
    assert_needs_modalities,
    batch,
    bpr,
    by_degrees,
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
    unit,
    weights,
    write_toy,
)

SETTINGS = {
    "protocol": "loo",
    "embedding_size": 6,
    "n_layers": 2,
    "n_item_layers": 2,
    "knn_k": 6,
    "reg_weight": 0.05,
    "modality_reg_weight": 0.3,
    "align_weight": 0.7,
    "cl_weight": 0.3,
    "temperature": 0.4,
    "user_cl_weight": 0.2,
    "user_temperature": 0.5,
    "noise": 0.2,
}
factory = maker("GUME", SETTINGS)


def linked_adjacency(bench):
    """D^-1/2 A D^-1/2 of users, items, and items that are neighbours in every modality."""
    interactions = incidence(bench)
    n_users, n_items = interactions.shape
    links = np.ones((n_items, n_items))
    for feature in features(bench).values():
        links *= neighbours(feature, SETTINGS["knn_k"])
    np.fill_diagonal(links, 0)
    top = np.hstack([np.zeros((n_users, n_users)), interactions])
    return by_degrees(np.vstack([top, np.hstack([interactions.T, links])])), links


def views_in_numpy(w, bench):
    adjacency, _ = linked_adjacency(bench)
    n_users = bench.model.n_users
    behaviour = mean_of_layers(adjacency, tables(w), SETTINGS["n_layers"])
    explicit, extended = {}, []
    for name, feature in features(bench).items():
        hidden = affine(w, f"project.{name}", w.get(f"features.{name}_feature", feature))
        item_h = w["item_embedding.weight"] * sigmoid(affine(w, f"purify.{name}.0", hidden))
        graph = by_degrees(cosines_of(neighbours(feature, SETTINGS["knn_k"]), feature))
        item_h = np.linalg.matrix_power(graph, SETTINGS["n_item_layers"]) @ item_h
        explicit[name] = np.concatenate([adjacency[:n_users, n_users:] @ item_h, item_h])
        start = np.concatenate([w[f"modality_user.{name}.weight"], item_h])
        extended.append(mean_of_layers(adjacency, start, SETTINGS["n_layers"]))
    content, _ = fuse_by_preference(w, behaviour, explicit)
    return behaviour, content, np.mean(extended, axis=0), list(explicit.values())


def noise_contrast(rows):
    noise = unit(torch.rand(2, *rows.shape).double().numpy()) * SETTINGS["noise"]
    return contrast(*(rows + np.sign(rows) * noise), SETTINGS["user_temperature"])


def loss_in_numpy(w, bench, interaction):
    behaviour, content, extended, explicit = views_in_numpy(w, bench)
    user, pos, neg = ids(interaction)
    n_users = bench.model.n_users
    node, out = n_users + pos, behaviour + content
    batch_rows = out[user], out[node], out[n_users + neg]
    loss = bpr(*batch_rows) + SETTINGS["reg_weight"] * half_squares(*batch_rows)
    loss += SETTINGS["modality_reg_weight"] * half_squares(extended[node])
    first, second = (np.delete(each, [0, n_users], axis=0) for each in explicit)
    distance = abs(first.var(ddof=1) - second.var(ddof=1)) + abs(first.mean() - second.mean())
    loss += SETTINGS["align_weight"] * distance
    for nodes in (user, node):
        part = contrast(content[nodes], behaviour[nodes], SETTINGS["temperature"])
        loss += SETTINGS["cl_weight"] * part
    total = contrast(extended[user], content[user], SETTINGS["user_temperature"])
    torch.manual_seed(0)  # the noise of calculate_loss below
    for rows in (content[user], extended[user]):
        total += noise_contrast(rows)
    return loss + SETTINGS["user_cl_weight"] * total


@pytest.mark.parametrize("n_modalities", [1, 2, 3])
def test_forward_equals_dense_numpy(factory, world, n_modalities):
    write_toy(world, n_modalities)
    bench = factory()
    behaviour, content, extended, explicit = views_in_numpy(weights(bench.model), bench)
    found = bench.model.views()
    np.testing.assert_allclose(found.extended.detach().numpy(), extended, atol=3e-6)
    for view, expected in zip(found.explicit, explicit, strict=True):
        np.testing.assert_allclose(view.detach().numpy(), expected, atol=3e-6)
    assert_forward(bench, behaviour + content)


def test_items_are_linked_in_one_direction_if_they_are_neighbours_in_every_modality(factory):
    bench = factory()
    adjacency, links = linked_adjacency(bench)
    assert 0 < links.sum() < len(links) ** 2 and (links != links.T).any()
    lacking = ~features(bench)["text"].any(axis=1)
    assert lacking.sum() == 2 and not links[lacking].any()  # the padding item and one more
    np.testing.assert_allclose(bench.model.graph.matrix.to_dense().numpy(), adjacency, atol=1e-6)


@pytest.mark.parametrize("train_features", [False, True])
def test_loss_and_gradients_equal_dense_numpy(factory, train_features):
    bench = factory(train_features=train_features)
    trained = [name for name, _ in bench.model.named_parameters() if "feature" in name]
    assert len(trained) == 2 * train_features
    interaction = batch(bench)
    torch.manual_seed(0)
    assert_loss_and_gradients(bench, interaction, lambda w: loss_in_numpy(w, bench, interaction))


def test_one_modality_has_nothing_to_align(factory, world):
    write_toy(world, 1)
    model, losses = factory(noise=0.0).model, []
    interaction = batch(factory())
    for weight in (0.0, 5.0):
        model.align_weight = weight
        losses.append(model.calculate_loss(interaction))
    assert torch.equal(*losses)


def test_no_modality_is_an_error_that_says_what_to_do(world):
    assert_needs_modalities(world, "GUME")
