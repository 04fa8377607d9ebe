"""Both subgraphs, the forward pass and the contrast against dense float64 numpy."""

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
    features,
    ids,
    incidence,
    maker,
    mean_of_layers,
    neighbours,
    unit,
    weights,
)

SETTINGS = {
    "protocol": "loo",
    "embedding_size": 8,
    "n_layers": 2,
    "n_item_layers": 1,
    "knn_k": 3,
    "modality_weights": {"image": 0.3},
    "edge_dropout": 0.5,
    "dropout": 0.0,
    "cl_weight": 0.6,
    "temperature": 0.3,
}
factory = maker("PGL", SETTINGS)


def forward_in_numpy(w, bench, adjacency=None, n_item_layers=SETTINGS["n_item_layers"]):
    """Over all training edges, unless another user-item matrix is given."""
    adjacency = bipartite(incidence(bench)) if adjacency is None else adjacency
    shares, item_graph, items, users = {"image": 0.3, "text": 0.7}, 0.0, [], []
    for name, feature in features(bench).items():
        item_graph = item_graph + shares[name] * by_degrees(neighbours(feature, SETTINGS["knn_k"]))
        feature = w.get(f"features.{name}_feature", feature)
        items.append(unit(affine(w, f"project.{name}", feature)))
        users.append(w[f"user_embedding.{name}.weight"])
    item_in = np.concatenate(items, axis=1)
    hidden = np.concatenate([np.concatenate(users, axis=1), item_in])
    out = mean_of_layers(adjacency, hidden, SETTINGS["n_layers"])
    out[bench.model.n_users :] += np.linalg.matrix_power(item_graph, n_item_layers) @ item_in
    return out


def contrast_with_itself(rows):
    """Return InfoNCE of rows with themselves: views without dropout are equal."""
    exp = np.exp(unit(rows) @ unit(rows).T / SETTINGS["temperature"])
    return -np.log(np.diag(exp) / exp.sum(axis=1)).mean()


def loss_in_numpy(w, bench, interaction, adjacency, cl_weight=SETTINGS["cl_weight"]):
    out = forward_in_numpy(w, bench, adjacency)
    user, pos, neg = ids(interaction)
    n_users = bench.model.n_users
    rows = out[user], out[n_users + pos], out[n_users + neg]
    contrast = contrast_with_itself(rows[0]) + contrast_with_itself(rows[1])
    return bpr(*rows) + cl_weight * contrast / 2


def subgraph(model):
    return model.subgraph.to_dense().double().numpy()


@pytest.mark.parametrize("n_item_layers", [0, 1, 2])
def test_forward_equals_dense_numpy_over_all_edges(factory, n_item_layers):
    bench = factory(n_item_layers=n_item_layers)
    expected = forward_in_numpy(weights(bench.model), bench, n_item_layers=n_item_layers)
    assert_forward(bench, expected)


@pytest.mark.parametrize("train_features", [False, True])
@pytest.mark.parametrize("cl_weight", [0.0, 0.6])
def test_loss_and_gradients_over_the_epochs_edges(factory, cl_weight, train_features):
    bench = factory(cl_weight=cl_weight, train_features=train_features)
    interaction = batch(bench)
    bench.model.train().begin_epoch()
    kept = subgraph(bench.model)
    interactions, n_users = incidence(bench), bench.model.n_users
    is_kept = (kept[:n_users, n_users:] > 0).astype(float)
    assert is_kept.sum() == int(interactions.sum() * 0.5) and not is_kept[interactions == 0].any()
    np.testing.assert_allclose(kept, bipartite(is_kept), rtol=1e-6)
    names = {name for name, _ in bench.model.named_parameters() if name.startswith("features.")}
    assert len(names) == 2 * train_features
    assert_loss_and_gradients(
        bench, interaction, lambda w: loss_in_numpy(w, bench, interaction, kept, cl_weight)
    )


def test_the_global_subgraph_is_of_the_largest_singular_vectors(world, clicks):
    world.write(clicks(parity=False))
    world.add_random_modalities(2)
    bench = world.bench("PGL", **SETTINGS | {"subgraph": "global", "embedding_size": 16})
    bench.model.train().begin_epoch()
    left, value, right = np.linalg.svd(bipartite(incidence(bench)))
    # of d = 16 singular values the first quarter, times the last
    expected = left[:, :4] @ np.diag(value[:4] * value[12:16]) @ right[:4]
    expected *= np.abs(expected) >= 1e-3
    np.testing.assert_allclose(subgraph(bench.model), expected, atol=1e-6)
    interaction = bench.batches()[0]
    assert_loss_and_gradients(
        bench, interaction, lambda w: loss_in_numpy(w, bench, interaction, expected)
    )


def test_contrasted_views_are_dropped_out_in_training_alone(factory):
    bench = factory(dropout=0.5, edge_dropout=0.0)
    interaction, model = batch(bench), bench.model
    expected = loss_in_numpy(weights(model), bench, interaction, None)
    assert model.eval().calculate_loss(interaction).item() == pytest.approx(expected, rel=1e-5)
    torch.manual_seed(0)
    losses = {model.train().calculate_loss(interaction).item() for _ in range(3)}
    assert len(losses) == 3 and min(losses) > expected


def test_evaluation_has_all_edges(factory):
    bench = factory(epochs=1)
    assert (subgraph(bench.model) > 0).sum() < 2 * incidence(bench).sum()
    bench.model.eval()
    found = torch.cat(bench.model.embeddings()).numpy()
    np.testing.assert_allclose(found, forward_in_numpy(weights(bench.model), bench), atol=3e-6)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"modality_weights": {"image": 2.0}}, "modality_weights"),
        ({"subgraph": "global", "embedding_size": 7}, "embedding_size=7"),
    ],
)
def test_settings_that_do_not_fit(factory, settings, error):
    with pytest.raises(ValueError, match=error):
        factory(**settings)


def test_no_modality_is_an_error_that_says_what_to_do(world):
    assert_needs_modalities(world, "PGL")
