"""Local and global embeddings and the contrast against dense float64 numpy."""

import numpy as np
import pytest
import torch
from dense import (
    assert_forward,
    assert_loss_and_gradients,
    assert_needs_modalities,
    batch,
    bipartite,
    bpr,
    contrast_of_pairs,
    features,
    half_squares,
    hypergraph_view,
    ids,
    incidence,
    maker,
    mean_of_layers,
    modality_view,
    scores,
    tables,
    unit,
    weights,
    write_toy,
)

SETTINGS = {
    "protocol": "loo",
    "embedding_size": 6,
    "n_layers": 2,
    "n_modality_layers": 3,
    "n_hyper_layers": 1,
    "n_hyperedges": 3,
    "hyper_dropout": 0.0,
    "global_weight": 0.6,
    "cl_weight": 0.02,
    "reg_weight": 0.05,
    "temperature": 0.7,
}
factory = maker("LGMRec", SETTINGS)


def views_in_numpy(w, bench, n_hyper_layers=1):
    """Return the final embeddings, and the views of each modality by its hyperedges."""
    collaborative = mean_of_layers(bipartite(incidence(bench)), tables(w), SETTINGS["n_layers"])
    item_emb = collaborative[bench.model.n_users :]
    out, hyper = collaborative, []
    for name in features(bench):
        out = out + unit(modality_view(w, bench, name, SETTINGS["n_modality_layers"]))
        hyper.append(
            hypergraph_view(w, bench, name, item_emb, n_hyper_layers, SETTINGS["temperature"])
        )
    return out + SETTINGS["global_weight"] * unit(sum(hyper)), hyper


def loss_in_numpy(w, bench, interaction, n_hyper_layers=1, cl_weight=SETTINGS["cl_weight"]):
    out, hyper = views_in_numpy(w, bench, n_hyper_layers)
    user, pos, neg = ids(interaction)
    n_users = bench.model.n_users
    batch_rows = out[user], out[n_users + pos], out[n_users + neg]
    contrast = contrast_of_pairs(hyper, user, pos, n_users, SETTINGS["temperature"])
    loss = bpr(*batch_rows) + SETTINGS["reg_weight"] * half_squares(*batch_rows)
    return loss + cl_weight * contrast


@pytest.mark.parametrize("n_modalities", [1, 2, 3])
@pytest.mark.parametrize("n_hyper_layers", [1, 2])
def test_forward_equals_dense_numpy(factory, world, n_modalities, n_hyper_layers):
    write_toy(world, n_modalities)
    bench = factory(n_hyper_layers=n_hyper_layers, hyper_dropout=0.5)
    bench.model.eval()
    expected, hyper = views_in_numpy(weights(bench.model), bench, n_hyper_layers)
    assert_forward(bench, expected)
    for found, view in zip(bench.model.views().hyper, hyper, strict=True):
        np.testing.assert_allclose(found.dense().detach().numpy(), view, rtol=1e-4, atol=3e-6)


@pytest.mark.parametrize(("n_modalities", "n_hyper_layers"), [(2, 1), (2, 2), (3, 1)])
def test_loss_and_gradients_equal_dense_numpy(
    factory, world, no_noise, n_modalities, n_hyper_layers
):
    write_toy(world, n_modalities)
    bench = factory(n_hyper_layers=n_hyper_layers)
    bench.model.train()
    interaction = batch(bench)
    assert_loss_and_gradients(
        bench, interaction, lambda w: loss_in_numpy(w, bench, interaction, n_hyper_layers)
    )


def test_without_weight_there_is_no_contrast(factory, no_noise):
    bench = factory(cl_weight=0.0)
    interaction = batch(bench)
    expected = loss_in_numpy(weights(bench.model), bench, interaction, cl_weight=0.0)
    found = bench.model.train().calculate_loss(interaction).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_one_modality_has_nothing_to_contrast(factory, world, no_noise):
    write_toy(world, 1)
    losses = []
    for cl_weight in (0.0, 1.0):
        torch.manual_seed(0)
        bench = factory(cl_weight=cl_weight)
        losses.append(bench.model.train().calculate_loss(batch(bench)).item())
    assert losses[0] == losses[1]


@pytest.mark.parametrize("hyper_dropout", [0.0, 0.5])
def test_training_is_random_and_evaluation_is_not(factory, hyper_dropout):
    bench = factory(hyper_dropout=hyper_dropout)
    model, interaction = bench.model.train(), batch(bench)
    torch.manual_seed(0)
    first, second = (model.calculate_loss(interaction) for _ in range(2))
    torch.manual_seed(0)
    again = model.calculate_loss(interaction)
    assert first != second
    assert first == again
    before = scores(model.eval())
    model.train()
    assert torch.equal(scores(model.eval()), before)


def test_hyperedges_drop_memberships_in_training_only(factory, no_noise):
    # without noise only dropout is left: a membership is 0, or twice what it was
    bench = factory(hyper_dropout=0.5)
    whole = [view.coords for view in bench.model.eval().views().hyper]
    torch.manual_seed(0)
    for view, coords in zip(bench.model.train().views().hyper, whole, strict=True):
        dropped = view.coords == 0
        of_items = dropped[bench.model.n_users + 1 :]
        assert of_items.any() and not of_items.all()
        torch.testing.assert_close(view.coords[~dropped], 2 * coords[~dropped])


def test_padding_item_joins_no_hyperedge(factory):
    model = factory(n_hyper_layers=2).model.eval()
    before, views = scores(model), [view.dense() for view in model.views().hyper]
    with torch.no_grad():
        model.item_embedding.weight[0] += 5.0
    model.train()
    after = scores(model.eval())
    assert torch.equal(after[:, 1:], before[:, 1:])
    assert not torch.equal(after[:, 0], before[:, 0])
    for found, view in zip(model.views().hyper, views, strict=True):
        assert torch.equal(found.dense(), view)


def test_memberships_are_shares(factory):
    model = factory().model.eval()
    for view in model.views().hyper:
        total = view.coords.sum(dim=1)
        expected = torch.ones(len(total))
        expected[model.n_users] = 0  # padding
        torch.testing.assert_close(total, expected)


def test_no_modality_is_an_error_that_says_what_to_do(world):
    assert_needs_modalities(world, "LGMRec")
