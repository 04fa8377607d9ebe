"""The networks of the modalities and the loss against dense float64 numpy."""

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

# image has 4 columns, text 5: only text is mapped to the latent width
SETTINGS = {
    "protocol": "loo",
    "embedding_size": 6,
    "latent_size": 4,
    "n_layers": 3,
    "reg_weight": 0.3,
}
factory = maker("MMGCN", SETTINGS)


def leaky(x):
    return np.where(x > 0, x, 0.01 * x)


def mean_of_neighbours(bench):
    interactions = incidence(bench)
    n_users, n_items = interactions.shape
    out = np.zeros((n_users + n_items, n_users + n_items))
    for user, item in zip(*interactions.nonzero(), strict=True):
        out[user, n_users + item] = 1 / interactions[user].sum()
        out[n_users + item, user] = 1 / interactions[:, item].sum()
    return out


def forward_in_numpy(w, bench, n_layers=SETTINGS["n_layers"]):
    views = []
    for name, feature in features(bench).items():
        part = f"networks.{name}"
        if name == "text":
            feature = affine(w, f"{part}.reduce", feature)
        hidden = unit(np.concatenate([w[f"{part}.preference.weight"], feature]))
        for layer in range(n_layers):
            message = leaky(
                mean_of_neighbours(bench) @ affine(w, f"{part}.aggregate.{layer}", hidden)
            )
            own = leaky(affine(w, f"{part}.combine.{layer}", hidden)) + tables(w)
            both = np.concatenate([message, own], axis=1)
            hidden = leaky(affine(w, f"{part}.join.{layer}", both))
        views.append(hidden)
    return np.mean(views, axis=0)


def loss_in_numpy(w, bench, interaction):
    out = forward_in_numpy(w, bench)
    user, pos, neg = ids(interaction)
    n_users = bench.model.n_users
    loss = bpr(out[user], out[n_users + pos], out[n_users + neg])
    items = np.concatenate([pos, neg])
    squares = [w["user_embedding.weight"][user] ** 2, w["item_embedding.weight"][items] ** 2]
    squares += [w[f"networks.{name}.preference.weight"][1:] ** 2 for name in features(bench)]
    return loss + SETTINGS["reg_weight"] * sum(square.mean() for square in squares)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_forward_equals_dense_numpy(factory, n_layers):
    bench = factory(n_layers=n_layers)
    assert_forward(bench, forward_in_numpy(weights(bench.model), bench, n_layers))


def test_loss_and_gradients_equal_dense_numpy(factory):
    bench = factory()
    names = dict(bench.model.named_parameters())
    assert "networks.text.reduce.weight" in names and "networks.image.reduce.weight" not in names
    interaction = batch(bench)
    assert_loss_and_gradients(bench, interaction, lambda w: loss_in_numpy(w, bench, interaction))


def test_no_modality_is_an_error_that_says_what_to_do(world):
    assert_needs_modalities(world, "MMGCN")
