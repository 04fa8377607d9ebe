"""Eq. 4 and 6 against float64 numpy, pair by pair."""

import numpy as np
import torch
from dense import (
    affine,
    assert_loss_and_gradients,
    assert_needs_modalities,
    batch,
    features,
    ids,
    maker,
    scores,
    weights,
)

SETTINGS = {"protocol": "loo", "embedding_size": 6, "reg_weight": 0.05}
factory = maker("VBPR", SETTINGS)


def score(w, bench, user, item):
    """x_ui of eq. 4, without what cancels in a ranking."""
    total = w["item_bias"][item, 0]
    total += w["user_embedding.weight"][user] @ w["item_embedding.weight"][item]
    for name, feature in features(bench).items():
        content = affine(w, f"project.{name}", feature[item])
        total += w["user_content.weight"][user] @ content
        total += w[f"content_bias.{name}.weight"][0] @ feature[item]
    return total


def loss_in_numpy(w, bench, interaction):
    margins, squares = [], []
    for user, pos, neg in zip(*ids(interaction), strict=True):
        margins.append(score(w, bench, user, pos) - score(w, bench, user, neg))
        squares += [w["user_embedding.weight"][user], w["user_content.weight"][user]]
        for item in (pos, neg):
            squares += [w["item_embedding.weight"][item], w["item_bias"][item]]
    regularised = sum((row**2).sum() for row in squares) / 2 / len(margins)
    return np.log1p(np.exp(-np.array(margins))).mean() + SETTINGS["reg_weight"] * regularised


def test_scores_equal_numpy(factory):
    bench = factory()
    model, w = bench.model.eval(), weights(bench.model)
    expected = [
        [score(w, bench, user, item) for item in range(model.n_items)]
        for user in range(model.n_users)
    ]
    np.testing.assert_allclose(scores(model).numpy(), expected, atol=3e-6)


def test_loss_and_gradients_equal_numpy(factory):
    bench = factory()
    interaction = batch(bench)
    assert_loss_and_gradients(bench, interaction, lambda w: loss_in_numpy(w, bench, interaction))


def test_content_alone_ranks_where_the_other_factor_is_off(factory):
    model = factory().model.eval()
    with torch.no_grad():
        model.item_embedding.weight.zero_()
        model.item_bias.zero_()
    user_emb, item_emb = model.embeddings()
    assert (user_emb @ item_emb[1:].T).abs().min() > 0
    assert not item_emb[0].any()  # padding has no features


def test_modalities_add_up(factory, world):
    # the same features twice, with half the weights each, are those features once
    feature = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    world.add_modalities({"image": feature})
    once = factory().model
    world.add_modalities({"image": feature, "text": feature})
    twice = factory().model
    with torch.no_grad():
        for name in ("user_embedding.weight", "item_embedding.weight", "user_content.weight"):
            twice.get_parameter(name).copy_(once.get_parameter(name))
        twice.item_bias.copy_(once.item_bias)
        for layer in ("project", "content_bias"):
            for name in ("image", "text"):
                half = once.get_parameter(f"{layer}.image.weight") / 2
                twice.get_parameter(f"{layer}.{name}.weight").copy_(half)
    for one, two in zip(once(), twice(), strict=True):
        torch.testing.assert_close(one, two)


def test_embedding_matrices_are_free_of_l2(factory):
    grads = []
    for reg_weight in (0.0, 10.0):
        torch.manual_seed(0)
        bench = factory(reg_weight=reg_weight)
        bench.model.calculate_loss(batch(bench)).backward()
        grads.append({name: weight.grad for name, weight in bench.model.named_parameters()})
    for name in grads[0]:
        free = name.startswith(("project", "content_bias"))
        assert torch.allclose(grads[0][name], grads[1][name]) == free, name


def test_no_modality_is_an_error_that_says_what_to_do(world):
    assert_needs_modalities(world, "VBPR")
