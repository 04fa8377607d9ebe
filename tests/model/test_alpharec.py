"""Mapping, propagation and the sampled contrast against dense float64 numpy."""

import numpy as np
import pytest
import torch
from dense import (
    ROWS,
    affine,
    assert_forward,
    assert_loss_and_gradients,
    assert_needs_modalities,
    batch,
    bipartite,
    features,
    ids,
    incidence,
    maker,
    mean_of_layers,
    scores,
    unit,
    weights,
    write_toy,
)

SETTINGS = {
    "protocol": "loo",
    "embedding_size": 6,
    "hidden_size": 5,
    "n_layers": 2,
    "n_negatives": 4,
    "temperature": 0.4,
}
factory = maker("AlphaRec", SETTINGS)


def forward_in_numpy(w, bench):
    interactions = incidence(bench)
    parts = list(features(bench).values())
    item = parts[0] if len(parts) == 1 else np.hstack([unit(part) for part in parts])
    n_each = interactions.sum(axis=1, keepdims=True)
    user = interactions @ item / np.maximum(n_each, 1)
    hidden = np.concatenate([user, item])
    if "map.weight" in w:
        hidden = affine(w, "map", hidden)
    else:
        hidden = affine(w, "map.0", hidden)
        hidden = affine(w, "map.2", np.where(hidden > 0, hidden, 0.01 * hidden))
    return unit(mean_of_layers(bipartite(interactions), hidden, SETTINGS["n_layers"]))


def loss_in_numpy(w, bench, interaction, negatives):
    out = forward_in_numpy(w, bench)
    user, pos = ids(interaction)
    item_emb = out[bench.model.n_users :]
    terms = []
    for place, (u, i) in enumerate(zip(user, pos, strict=True)):
        logits = item_emb[[i, *negatives[place]]] @ out[u] / SETTINGS["temperature"]
        terms.append(np.log(np.exp(logits).sum()) - logits[0])
    return np.mean(terms)


@pytest.mark.parametrize("mapping", ["mlp", "linear"])
@pytest.mark.parametrize("n_modalities", [1, 2, 3])
def test_forward_equals_dense_numpy(factory, world, n_modalities, mapping):
    write_toy(world, n_modalities)
    bench = factory(mapping=mapping)
    assert_forward(bench, forward_in_numpy(weights(bench.model), bench))


@pytest.mark.parametrize("mapping", ["mlp", "linear"])
def test_loss_and_gradients_equal_dense_numpy(factory, mapping):
    bench = factory(mapping=mapping)
    interaction = batch(bench, negatives=False)
    torch.manual_seed(0)
    user = interaction["user_id"]
    negatives = bench.model.negatives.draw(user, SETTINGS["n_negatives"]).numpy()
    known = incidence(bench)
    assert not known[user.numpy()[:, None], negatives].any() and negatives.min() > 0
    torch.manual_seed(0)
    assert_loss_and_gradients(
        bench, interaction, lambda w: loss_in_numpy(w, bench, interaction, negatives)
    )


def test_scores_are_cosines_and_a_cold_item_has_them_by_its_content(factory, world):
    world.write([*ROWS, ("u0", "new", 9)])  # held out, and nobody else's
    world.add_random_modalities(2)
    bench = factory()
    new = bench.split.dataset.token2id("item_id", "new")
    assert not incidence(bench)[:, new].any()
    found = scores(bench.model)[1:]
    assert found.abs().max() <= 1 + 1e-6
    hidden = bench.model.map(bench.model.item_feature[new])
    expected = unit(bench.model()[0].detach().numpy()[1:]) @ unit(hidden.detach().numpy())
    np.testing.assert_allclose(found[:, new].numpy(), expected, atol=1e-6)
    assert expected.std() > 0


def test_weights_depend_on_no_number_of_users_or_items(factory):
    model = factory(embedding_size=7, hidden_size=13).model
    sizes = {model.n_users, model.n_items}
    assert not any(sizes & set(weight.shape) for weight in model.parameters())


def test_no_modality_is_an_error_that_says_what_to_do(world):
    assert_needs_modalities(world, "AlphaRec")
