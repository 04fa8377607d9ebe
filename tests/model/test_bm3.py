"""The three bootstrap losses against dense float64 numpy."""

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
    contents,
    features,
    half_squares,
    ids,
    incidence,
    maker,
    mean_of_layers,
    tables,
    unit,
    weights,
)

SETTINGS = {
    "protocol": "loo",
    "embedding_size": 6,
    "n_layers": 2,
    "dropout": 0.0,
    "cl_weight": 1.5,
    "reg_weight": 0.05,
}
factory = maker("BM3", SETTINGS)


def backbone_in_numpy(w, bench):
    out = mean_of_layers(bipartite(incidence(bench)), tables(w), SETTINGS["n_layers"])
    out[bench.model.n_users :] += w["item_embedding.weight"]
    return out


def distance(online, target):
    return 1 - (unit(online) * unit(target)).sum(axis=1).mean()


def loss_in_numpy(
    w, bench, interaction, frozen, cl_weight=SETTINGS["cl_weight"], reg_form="squares"
):
    """Targets are of the weights ``frozen``, so that no gradient flows to them."""
    user, item = ids(interaction)

    def of(w):
        out = backbone_in_numpy(w, bench)
        content = {
            name: affine(w, f"project.{name}", feature)[item]
            for name, feature in contents(w, bench).items()
        }
        return out[user], out[bench.model.n_users + item], content

    user_h, item_h, content = of(w)
    user_target, item_target, content_target = of(frozen)
    loss = distance(affine(w, "predictor", user_h), item_target)
    loss += distance(affine(w, "predictor", item_h), user_target)
    for name, hidden in content.items():
        online = affine(w, "predictor", hidden)
        loss += cl_weight * distance(online, item_target)
        loss += cl_weight * distance(online, content_target[name])
    if reg_form == "squares":
        return loss + SETTINGS["reg_weight"] * half_squares(user_h, item_h)
    users, items = np.split(backbone_in_numpy(w, bench), [bench.model.n_users])
    norms = [np.sqrt((table[1:] ** 2).sum()) for table in (users, items)]  # without padding
    return loss + SETTINGS["reg_weight"] * sum(norms) / (bench.model.n_items - 1)


def test_forward_equals_dense_numpy(factory):
    bench = factory()
    w = weights(bench.model)
    assert_forward(bench, affine(w, "predictor", backbone_in_numpy(w, bench)))


@pytest.mark.parametrize("cl_weight", [1.5, 0.0])
def test_loss_and_gradients_equal_dense_numpy(factory, cl_weight):
    # the numbers of the gradients are right only if none flows through a target
    bench = factory(cl_weight=cl_weight)
    interaction, frozen = batch(bench, negatives=False), weights(bench.model)
    assert_loss_and_gradients(
        bench, interaction, lambda w: loss_in_numpy(w, bench, interaction, frozen, cl_weight)
    )


def test_norms_of_all_rows_as_regulariser(factory):
    bench = factory(reg_form="norms")
    interaction, frozen = batch(bench, negatives=False), weights(bench.model)
    assert_loss_and_gradients(
        bench,
        interaction,
        lambda w: loss_in_numpy(w, bench, interaction, frozen, reg_form="norms"),
    )


def test_trained_features_have_right_gradients(factory):
    bench = factory(train_features=True)
    interaction, frozen = batch(bench, negatives=False), weights(bench.model)
    assert {f"features.{name}_feature" for name in features(bench)} <= set(frozen)
    assert_loss_and_gradients(
        bench, interaction, lambda w: loss_in_numpy(w, bench, interaction, frozen)
    )
    assert all(bench.model.features[name].grad.any() for name in features(bench))


def test_targets_carry_no_gradient(factory):
    model = factory(dropout=0.5).model.train()
    hidden = torch.ones(3, 6, requires_grad=True)
    assert not model.target(hidden * 2).requires_grad


def test_no_negative_samples_are_drawn(factory):
    bench = factory()
    batches = bench.batches()
    assert batches
    for each in batches:
        assert model_columns(each) == {"user_id", "item_id"}
    assert sum(len(each) for each in batches) == incidence(bench).sum()


def model_columns(interaction):
    names = set(interaction.interaction)
    return {name for name in names if name.endswith("_id") or name.startswith("neg")}


def test_only_the_targets_are_dropped_out(factory):
    bench = factory(dropout=0.5)
    model, interaction = bench.model.train(), batch(bench, negatives=False)
    torch.manual_seed(0)
    assert model.calculate_loss(interaction) != model.calculate_loss(interaction)
    for first, second in zip(model(), model(), strict=True):
        assert torch.equal(first, second)
    # without dropout, as in evaluation, the loss is that of dropout 0
    frozen = weights(model)
    expected = loss_in_numpy(frozen, bench, interaction, frozen)
    assert model.eval().calculate_loss(interaction).item() == pytest.approx(expected, rel=1e-5)


def test_dropped_out_targets_enter_the_loss(factory, monkeypatch):
    # a dropout that drops every second column, and scales what is left
    bench = factory(dropout=0.5)
    mask = torch.tensor([0.0, 2.0]).repeat(3)
    monkeypatch.setattr(bench.model.dropout, "forward", lambda hidden: hidden * mask)
    interaction = batch(bench, negatives=False)
    found = bench.model.train().calculate_loss(interaction).item()

    w, factor = weights(bench.model), mask.double().numpy()
    user, item = ids(interaction)
    out = backbone_in_numpy(w, bench)
    user_h, item_h = out[user], out[bench.model.n_users + item]
    expected = distance(affine(w, "predictor", user_h), factor * item_h)
    expected += distance(affine(w, "predictor", item_h), factor * user_h)
    for name, feature in features(bench).items():
        hidden = affine(w, f"project.{name}", feature)[item]
        online = affine(w, "predictor", hidden)
        for target in (item_h, hidden):
            expected += SETTINGS["cl_weight"] * distance(online, factor * target)
    expected += SETTINGS["reg_weight"] * half_squares(user_h, item_h)
    assert found == pytest.approx(np.float64(expected), rel=1e-5)


def test_no_modality_is_an_error_that_says_what_to_do(world):
    assert_needs_modalities(world, "BM3")
