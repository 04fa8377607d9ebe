"""DRAGON, and DualGNN whose parts it shares, against dense float64 numpy."""

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
    neighbours,
    softmax,
    unit,
    weights,
)

COMMON = {"protocol": "loo", "embedding_size": 6, "n_layers": 2, "user_k": 9, "reg_weight": 0.3}
CONTENT = {"n_item_layers": 1, "knn_k": 3, "modality_weights": {"image": 0.3}}
dragon = maker("DRAGON", COMMON | CONTENT)
dualgnn = maker("DualGNN", COMMON)


def modality_in_numpy(w, bench, name, feature):
    """Return the sum of layers 0..2 of one modality."""
    hidden = affine(w, f"preferences.item.{name}.0", feature)
    item_h = affine(w, f"preferences.item.{name}.2", np.where(hidden > 0, hidden, 0.01 * hidden))
    start = unit(np.concatenate([w[f"preferences.user.{name}.weight"], item_h]))
    adjacency = bipartite(incidence(bench))
    return start + adjacency @ start + adjacency @ adjacency @ start


def with_similar_users(bench, user_h):
    """Add to every user the softmax-weighted mean of all users with common items."""
    interactions = incidence(bench)
    out = user_h.copy()
    for user, taken in enumerate(interactions):
        common = interactions @ taken
        common[user] = 0
        others = np.flatnonzero(common)
        if len(others):
            out[user] += softmax(common[others]) @ user_h[others]
    assert (out == user_h).all(axis=1).sum() == 2  # padding, and a user who shares no item
    return out


def dragon_in_numpy(w, bench, n_item_layers=1):
    n_users, users, items, item_graph = bench.model.n_users, [], [], 0.0
    for place, (name, feature) in enumerate(features(bench).items()):
        view = modality_in_numpy(w, bench, name, feature)
        users.append(w["modality_weight.weight"][:, place, None] * view[:n_users])
        items.append(view[n_users:])
        share = {"image": 0.3, "text": 0.7}[name]
        item_graph = item_graph + share * by_degrees(neighbours(feature, CONTENT["knn_k"]))
    item_h = np.concatenate(items, axis=1)
    item_h = item_h + np.linalg.matrix_power(item_graph, n_item_layers) @ item_h
    return np.concatenate([with_similar_users(bench, np.concatenate(users, axis=1)), item_h])


def dualgnn_in_numpy(w, bench):
    n_users = bench.model.n_users
    views = [modality_in_numpy(w, bench, *each) for each in features(bench).items()]
    weight = w["modality_weight.weight"]
    user_h = sum(weight[:, place, None] * view[:n_users] for place, view in enumerate(views))
    return np.concatenate([with_similar_users(bench, user_h), sum(views)[n_users:]])


def loss_in_numpy(w, bench, interaction, out):
    user, pos, neg = ids(interaction)
    n_users = bench.model.n_users
    loss = bpr(out[user], out[n_users + pos], out[n_users + neg]) / np.log(2)
    squares = [w[f"preferences.user.{name}.weight"][user] ** 2 for name in features(bench)]
    squares.append(w["modality_weight.weight"][1:] ** 2)
    return loss + COMMON["reg_weight"] * sum(square.mean() for square in squares)


@pytest.mark.parametrize("n_item_layers", [0, 1, 2])
def test_dragon_equals_dense_numpy(dragon, n_item_layers):
    bench = unequal(dragon(n_item_layers=n_item_layers))
    assert_forward(bench, dragon_in_numpy(weights(bench.model), bench, n_item_layers))


def test_dualgnn_equals_dense_numpy(dualgnn):
    bench = unequal(dualgnn())
    assert_forward(bench, dualgnn_in_numpy(weights(bench.model), bench))


def unequal(bench):
    """Give every user weights of modalities of their own."""
    torch.nn.init.normal_(bench.model.modality_weight.weight)
    return bench


def test_loss_and_gradients_of_dragon(dragon):
    bench = unequal(dragon())
    interaction = batch(bench)
    assert_loss_and_gradients(
        bench,
        interaction,
        lambda w: loss_in_numpy(w, bench, interaction, dragon_in_numpy(w, bench)),
    )


def test_loss_and_gradients_of_dualgnn(dualgnn):
    bench = unequal(dualgnn())
    interaction = batch(bench)
    assert_loss_and_gradients(
        bench,
        interaction,
        lambda w: loss_in_numpy(w, bench, interaction, dualgnn_in_numpy(w, bench)),
    )


def test_modalities_weigh_the_same_at_the_start(dragon):
    assert (weights(dragon().model)["modality_weight.weight"] == 0.5).all()


def test_fewer_similar_users_change_the_users_alone(dualgnn):
    few, many = dualgnn(user_k=1).model, dualgnn().model
    many.load_state_dict(few.state_dict())
    (user_few, item_few), (user_many, item_many) = few(), many()
    assert (item_few == item_many).all() and (user_few != user_many).any()


def test_bad_weights_of_modalities_stop_dragon(dragon):
    with pytest.raises(ValueError, match="modality_weights"):
        dragon(modality_weights={"image": 2.0})


@pytest.mark.parametrize("model", ["DRAGON", "DualGNN"])
def test_no_modality_is_an_error_that_says_what_to_do(world, model):
    assert_needs_modalities(world, model)
