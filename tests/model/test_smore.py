"""Filters in the spectrum, three kinds of item views and their preferences against dense numpy."""

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
    contrast,
    cosines_of,
    features,
    half_squares,
    ids,
    incidence,
    maker,
    mean_of_layers,
    neighbours,
    sigmoid,
    softmax,
    tables,
    weights,
    write_toy,
)

KNN_K = {"image": 5, "text": 3, "audio": 3}
SETTINGS = {
    "protocol": "loo",
    "embedding_size": 6,
    "n_layers": 2,
    "n_item_layers": 2,
    "knn_k": 3,
    "modality_knn_k": {"image": 5},
    "cl_weight": 0.3,
    "temperature": 0.4,
    "dropout": 0.0,
    "reg_weight": 0.05,
}
factory = maker("SMORE", SETTINGS)


def filtered(rows, weight):
    """Circular convolution of each row with the filter, by sums over frequencies of all columns."""
    dim = rows.shape[1]
    grid = np.outer(np.arange(dim), np.arange(dim)) / dim
    wave = np.exp(-2j * np.pi * grid) / np.sqrt(dim)  # (frequency, column), unitary
    half = weight[:, 0] + 1j * weight[:, 1]
    # A real result needs a mirrored spectrum: frequency 0 and the middle one keep the real part.
    spectrum = rows @ wave.T
    product = spectrum[:, : len(half)] * half
    full = np.zeros_like(spectrum)
    full[:, : len(half)] = product
    full[:, 0] = product[:, 0].real
    if dim % 2 == 0:
        full[:, dim // 2] = product[:, dim // 2].real
    for frequency in range(1, (dim + 1) // 2):
        full[:, dim - frequency] = product[:, frequency].conj()
    return (full @ wave.conj()).real


def views_in_numpy(w, bench):
    interactions = incidence(bench)
    n_users, adjacency = len(interactions), bipartite(interactions)
    behaviour = mean_of_layers(adjacency, tables(w), SETTINGS["n_layers"])
    contents, graphs, spectrum = {}, {}, 1.0
    for name, feature in features(bench).items():
        hidden = affine(w, f"project.{name}", w.get(f"features.{name}_feature", feature))
        contents[name] = filtered(hidden, w[f"filters.{name}"])
        spectrum = spectrum * np.fft.rfft(hidden, axis=1, norm="ortho")
        graphs[name] = by_degrees(cosines_of(neighbours(feature, KNN_K[name]), feature))
    pointwise = spectrum * (w["fusion_filter"][:, 0] + 1j * w["fusion_filter"][:, 1])
    fused = np.fft.irfft(pointwise, n=tables(w).shape[1], axis=1, norm="ortho")

    def view(rows, purify, graph):
        item_h = w["item_embedding.weight"] * sigmoid(affine(w, purify, rows))
        item_h = np.linalg.matrix_power(graph, SETTINGS["n_item_layers"]) @ item_h
        return np.concatenate([adjacency[:n_users, n_users:] @ item_h, item_h])

    fusion = view(fused, "fusion_purify.0", np.maximum.reduce(list(graphs.values())))
    parts = [sigmoid(affine(w, "fusion_prefer.0", behaviour)) * fusion]
    for name, rows in contents.items():
        query = np.tanh(affine(w, f"query.{name}.0", fusion)) @ w[f"query.{name}.2.weight"].T
        part = softmax(query) * view(rows, f"purify.{name}.0", graphs[name])
        parts.append(sigmoid(affine(w, f"prefer.{name}.0", behaviour)) * part)
    return behaviour, np.mean(parts, axis=0)


def loss_in_numpy(w, bench, interaction):
    behaviour, content = views_in_numpy(w, bench)
    user, pos, neg = ids(interaction)
    n_users, out = bench.model.n_users, behaviour + content
    batch_rows = out[user], out[n_users + pos], out[n_users + neg]
    loss = bpr(*batch_rows) + SETTINGS["reg_weight"] * half_squares(*batch_rows)
    for nodes in (user, n_users + pos):
        part = contrast(content[nodes], behaviour[nodes], SETTINGS["temperature"])
        loss += SETTINGS["cl_weight"] * part
    return loss


@pytest.mark.parametrize("width", [6, 7])
@pytest.mark.parametrize("n_modalities", [1, 2, 3])
def test_forward_equals_dense_numpy(factory, world, n_modalities, width):
    write_toy(world, n_modalities)
    bench = factory(embedding_size=width)
    behaviour, content = views_in_numpy(weights(bench.model), bench)
    np.testing.assert_allclose(bench.model.views().content.detach().numpy(), content, atol=3e-6)
    assert_forward(bench, behaviour + content)


@pytest.mark.parametrize("train_features", [False, True])
def test_loss_and_gradients_equal_dense_numpy(factory, train_features):
    bench = factory(train_features=train_features)
    trained = [name for name, _ in bench.model.named_parameters() if "feature" in name]
    assert len(trained) == 2 * train_features
    interaction = batch(bench)
    assert_loss_and_gradients(bench, interaction, lambda w: loss_in_numpy(w, bench, interaction))


def test_dropout_acts_in_training_only(factory):
    model = factory(dropout=0.5).model
    torch.manual_seed(0)
    first, second = model.train().views(), model.views()
    assert torch.equal(first.behaviour, second.behaviour)
    assert not torch.equal(first.content, second.content)
    model.eval()
    assert torch.equal(model.views().content, model.views().content)


def test_no_modality_is_an_error_that_says_what_to_do(world):
    assert_needs_modalities(world, "SMORE")
