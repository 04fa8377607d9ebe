"""The learned and the initial item graphs against dense float64 numpy."""

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
    cosines_of,
    features,
    half_squares,
    ids,
    incidence,
    maker,
    mean_of_layers,
    neighbours,
    softmax,
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
    "knn_k": 7,  # of nine items, so that some neighbours point away
    "initial_weight": 0.4,
    "reg_weight": 0.05,
}
factory = maker("LATTICE", SETTINGS)


def projected(w, bench):
    return {
        name: affine(w, f"project.{name}", feature) for name, feature in contents(w, bench).items()
    }


def edges_in_numpy(w, bench):
    """Return 0/1 (I, I) of each modality's nearest by projected features."""
    return {name: neighbours(x, SETTINGS["knn_k"]) for name, x in projected(w, bench).items()}


def row_norm(interactions):
    """Return D^-1 (A + I) of the user-item graph."""
    n_users, n_items = interactions.shape
    out = np.eye(n_users + n_items)
    out[:n_users, n_users:] = interactions
    out[n_users:, :n_users] = interactions.T
    return out / out.sum(axis=1, keepdims=True)


def forward_in_numpy(w, bench, edges=None):
    """Over the current neighbours, unless others are given."""
    edges = edges_in_numpy(w, bench) if edges is None else edges
    config, content = bench.config, projected(w, bench)
    initial, learned, mixed = 0.0, 0.0, 0.0
    for share, (name, feature) in zip(
        softmax(w["importance"]), features(bench).items(), strict=True
    ):
        initial += share * by_degrees(cosines_of(neighbours(feature, config["knn_k"]), feature))
        learned += share * by_degrees(cosines_of(edges[name], content[name]))
        mixed += share * cosines_of(edges[name], content[name])
    if config["learned_norm"] == "mixed":
        learned = by_degrees(mixed)
    weight = config["initial_weight"]
    item_graph = weight * initial + (1 - weight) * learned
    power = np.linalg.matrix_power(item_graph, config["n_item_layers"])
    matrix = {"symmetric": bipartite, "row": row_norm}[config["user_item_norm"]]
    out = mean_of_layers(matrix(incidence(bench)), tables(w), config["n_layers"])
    out[bench.model.n_users :] += unit(power @ w["item_embedding.weight"])
    return out


def loss_in_numpy(w, bench, interaction, edges):
    out = forward_in_numpy(w, bench, edges)
    user, pos, neg = ids(interaction)
    n_users = bench.model.n_users
    batch_rows = out[user], out[n_users + pos], out[n_users + neg]
    return bpr(*batch_rows) + SETTINGS["reg_weight"] * half_squares(*batch_rows)


def test_some_neighbours_point_away(factory):
    bench = factory()
    w = weights(bench.model)
    edges = edges_in_numpy(w, bench)
    for name, x in projected(w, bench).items():
        rows = unit(x)
        assert ((rows @ rows.T < 0) & (edges[name] > 0)).any()


@pytest.mark.parametrize("initial_weight", [0.0, 0.4, 1.0])
def test_forward_equals_dense_numpy(factory, initial_weight):
    bench = factory(initial_weight=initial_weight)
    assert_forward(bench, forward_in_numpy(weights(bench.model), bench))


@pytest.mark.parametrize(
    "code",
    [{}, {"user_item_norm": "row"}, {"learned_norm": "mixed"}, {"train_features": True}],
    ids=str,
)
def test_loss_and_gradients_equal_dense_numpy(factory, code):
    # those of the projections, which reach them through the learned weights, are among them
    bench = factory(**code)
    interaction = batch(bench)
    bench.model.train().begin_epoch()
    edges = edges_in_numpy(weights(bench.model), bench)
    assert_loss_and_gradients(
        bench, interaction, lambda w: loss_in_numpy(w, bench, interaction, edges)
    )
    for name in features(bench):
        assert bench.model.project[name].weight.grad.abs().max() > 1e-4


def test_every_batch_trains_the_projections(factory):
    bench = factory()
    model, interaction = bench.model.train(), batch(bench)
    model.begin_epoch()
    for _ in range(3):
        model.zero_grad()
        model.calculate_loss(interaction).backward()
        for name in features(bench):
            assert model.project[name].weight.grad.abs().max() > 1e-4


def test_initial_graph_alone_leaves_the_projections_untrained(factory):
    bench = factory(initial_weight=1.0)
    bench.model.calculate_loss(batch(bench)).backward()
    for name in features(bench):
        assert not bench.model.project[name].weight.grad.any()


def move_projections(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.project.values():
            layer.weight.add_(torch.randn(layer.weight.shape, generator=generator))


def test_neighbours_stay_for_an_epoch_and_their_weights_follow(factory):
    bench = factory()
    model, interaction = bench.model.train(), batch(bench)
    model.begin_epoch()
    old = edges_in_numpy(weights(model), bench)
    move_projections(model)
    w = weights(model)
    new = edges_in_numpy(w, bench)
    assert any((old[name] != new[name]).any() for name in old)

    before = model.calculate_loss(interaction).item()
    assert before == pytest.approx(loss_in_numpy(w, bench, interaction, old), rel=1e-5)
    model.begin_epoch()
    after = model.calculate_loss(interaction).item()
    assert after == pytest.approx(loss_in_numpy(w, bench, interaction, new), rel=1e-5)
    assert before != pytest.approx(after, rel=1e-4)


def test_evaluation_finds_neighbours_anew(factory):
    bench = factory()
    model = bench.model.train()
    model.begin_epoch()
    move_projections(model)
    found = torch.cat(model.eval().embeddings()).numpy()
    np.testing.assert_allclose(found, forward_in_numpy(weights(model), bench), atol=3e-6)


def test_an_item_whose_projection_is_zero_has_finite_gradients(factory):
    bench = factory()
    model = bench.model.train()
    with torch.no_grad():
        for layer in model.project.values():
            layer.bias.zero_()  # so that an item without features has none projected
    loss = model.calculate_loss(batch(bench))
    loss.backward()
    assert loss.isfinite()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


def test_modalities_start_equally_important(world):
    write_toy(world, 3)
    model = world.bench("LATTICE", **SETTINGS).model
    assert model.importance.tolist() == [0.0, 0.0, 0.0]


def test_no_modality_is_an_error_that_says_what_to_do(world):
    assert_needs_modalities(world, "LATTICE")
