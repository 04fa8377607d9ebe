"""Early and late fusion, refined layers and weighed views against dense float64 numpy."""

import numpy as np
import pytest
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
    neighbours,
    softmax,
    unit,
    weights,
    write_toy,
)

SETTINGS = {
    "protocol": "loo",
    "embedding_size": 6,
    "n_layers": 2,
    "n_item_layers": 2,
    "user_k": 9,
    "knn_k": 3,
    "modality_weights": {"image": 0.3},
    "reg_weight": 0.4,
}
factory = maker("COHESION", SETTINGS)


def users_in_numpy(bench):
    """Softmax of the numbers of common items, over all users who share one: there are few."""
    interactions = incidence(bench)
    common = interactions @ interactions.T
    np.fill_diagonal(common, 0)
    weight = np.where(common > 0, np.exp(common), 0)
    total = weight.sum(axis=1, keepdims=True)
    return np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)


def content_in_numpy(w, name, rows):
    hidden = affine(w, f"{name}.0", rows)
    return affine(w, f"{name}.2", np.where(hidden > 0, hidden, 0.01 * hidden))


def views_in_numpy(w, bench, adjacency):
    item_ids = w["item_embedding.weight"]
    starts = [(w["user_embedding.weight"], content_in_numpy(w, "id_mlp", item_ids))]
    for name, feature in features(bench).items():
        content = content_in_numpy(w, f"modality_mlp.{name}", feature)
        starts.append((w[f"modality_user.{name}.weight"], content))
    views = []
    for user_h, content in starts:
        item_h = np.sqrt((item_ids**2 + content**2) / 2 + 1e-8)
        start = unit(np.concatenate([user_h, item_h]))
        hidden, layers = start, [start]
        for _ in range(SETTINGS["n_layers"]):
            hidden = adjacency @ hidden
            hidden = hidden * (unit(hidden) * start).sum(axis=1, keepdims=True)
            layers.append(hidden)
        views.append(np.sum(layers, axis=0))
    return views


def forward_in_numpy(w, bench, adjacency=None, fixed=None):
    """``fixed``: an id view that takes the place of its own, as where no gradient flows."""
    adjacency = bipartite(incidence(bench)) if adjacency is None else adjacency
    views = views_in_numpy(w, bench, adjacency)
    if fixed is not None:
        views[0] = fixed
    out, n_users = np.hstack(views), bench.model.n_users
    names = list(features(bench))
    given = SETTINGS["modality_weights"]
    shares = {n: given.get(n, 0.7 / (len(names) - 1)) for n in names} if names[1:] else {}
    item_graph = sum(
        shares.get(name, 1.0) * by_degrees(neighbours(feature, SETTINGS["knn_k"]))
        for name, feature in features(bench).items()
    )
    user_h, item_h = out[:n_users], out[n_users:]
    item_out = np.linalg.matrix_power(item_graph, SETTINGS["n_item_layers"]) @ item_h
    return np.concatenate([user_h + users_in_numpy(bench) @ user_h, item_h + item_out])


def loss_in_numpy(w, bench, interaction, fixed=None, weight=None, adjacency=None):
    """``weight``: (B, V) weights of the views, which no gradient flows through; None: their own."""
    out = forward_in_numpy(w, bench, adjacency, fixed)
    user, pos, neg = ids(interaction)
    n_users, n_views = bench.model.n_users, len(features(bench)) + 1
    user_e, pos_e, neg_e = (
        out[node].reshape(len(user), n_views, -1) for node in (user, n_users + pos, n_users + neg)
    )
    if weight is None:
        weight = 1 - softmax((user_e * pos_e).sum(axis=-1) - (user_e * neg_e).sum(axis=-1))
    weighed = (user_e * weight[:, :, None]).reshape(len(user), -1)
    flat = (rows.reshape(len(user), -1) for rows in (pos_e, neg_e))
    loss = bpr(weighed, *flat) / np.log(2)
    for name in features(bench):
        loss += SETTINGS["reg_weight"] * (w[f"modality_user.{name}.weight"][user] ** 2).mean()
    return loss, weight


@pytest.mark.parametrize("n_modalities", [1, 2, 3])
def test_forward_equals_dense_numpy(factory, world, n_modalities):
    write_toy(world, n_modalities)
    bench = factory()
    assert_forward(bench, forward_in_numpy(weights(bench.model), bench))


@pytest.mark.parametrize("detach_id", [False, True])
def test_loss_and_gradients_equal_dense_numpy(factory, detach_id):
    bench = factory(detach_id=detach_id)
    interaction, start = batch(bench), weights(bench.model)
    fixed = views_in_numpy(start, bench, bipartite(incidence(bench)))[0] if detach_id else None
    _, weight = loss_in_numpy(start, bench, interaction)
    assert weight.std() > 0.01

    def loss(w):
        return loss_in_numpy(w, bench, interaction, fixed, weight)[0]

    assert_loss_and_gradients(bench, interaction, loss)
    trained = bench.model.user_embedding.weight.grad
    assert (trained is None or not trained.any()) == detach_id


def test_training_uses_the_sampled_graph_and_evaluation_all_edges(factory):
    bench = factory(edge_dropout=0.5)
    interaction, w = batch(bench), weights(bench.model)
    found = bench.model.calculate_loss(interaction).item()
    adjacency = bench.model._sampled.to_dense().double().numpy()
    assert (adjacency > 0).sum() < (bipartite(incidence(bench)) > 0).sum()
    expected, _ = loss_in_numpy(w, bench, interaction, adjacency=adjacency)
    assert found == pytest.approx(expected, rel=1e-5)
    assert_forward(bench, forward_in_numpy(w, bench))


def test_no_modality_is_an_error_that_says_what_to_do(world):
    assert_needs_modalities(world, "COHESION")
