"""The two graphs against dense float64 numpy, and the thinning of one of them."""

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
    features,
    ids,
    incidence,
    maker,
    mean_of_layers,
    neighbours,
    tables,
    weights,
)

SETTINGS = {
    "protocol": "loo",
    "embedding_size": 6,
    "n_layers": 2,
    "n_item_layers": 2,
    "knn_k": 3,
    "modality_weights": {"image": 0.3},
    "edge_dropout": 0.5,
    "reg_weight": 0.4,
}
factory = maker("FREEDOM", SETTINGS)


def forward_in_numpy(w, bench, adjacency=None, n_item_layers=2):
    """Over all training edges, unless another user-item matrix is given."""
    adjacency = bipartite(incidence(bench)) if adjacency is None else adjacency
    shares = {"image": 0.3, "text": 0.7}
    item_graph = sum(
        shares[name] * by_degrees(neighbours(feature, SETTINGS["knn_k"]))
        for name, feature in features(bench).items()
    )
    out = mean_of_layers(adjacency, tables(w), SETTINGS["n_layers"])
    content = np.linalg.matrix_power(item_graph, n_item_layers) @ w["item_embedding.weight"]
    out[len(out) - len(content) :] += content
    return out


def loss_in_numpy(w, bench, interaction, adjacency=None, reg_weight=SETTINGS["reg_weight"]):
    out = forward_in_numpy(w, bench, adjacency)
    user, pos, neg = ids(interaction)
    n_users = bench.model.n_users
    user_e = out[user]
    loss = bpr(user_e, out[n_users + pos], out[n_users + neg])
    for name, feature in contents(w, bench).items():
        content = affine(w, f"project.{name}", feature)
        loss += reg_weight * bpr(user_e, content[pos], content[neg])
    return loss


def kept(model):
    """Return 0/1 (U, I) of the edges of the epoch's graph."""
    return (model._sampled.to_dense()[: model.n_users, model.n_users :] > 0).double().numpy()


@pytest.mark.parametrize("n_item_layers", [0, 1, 2])
def test_forward_equals_dense_numpy(factory, n_item_layers):
    # without layers the item graphs are the identity: the item's own embedding is added
    bench = factory(n_item_layers=n_item_layers)
    expected = forward_in_numpy(weights(bench.model), bench, n_item_layers=n_item_layers)
    assert_forward(bench, expected)
    if n_item_layers == 0:
        collaborative = mean_of_layers(bipartite(incidence(bench)), tables(weights(bench.model)), 2)
        residual = expected - collaborative
        assert not residual[: bench.model.n_users].any()
        np.testing.assert_allclose(
            residual[bench.model.n_users :], weights(bench.model)["item_embedding.weight"]
        )


@pytest.mark.parametrize("reg_weight", [0.4, 0.0])
def test_loss_and_gradients_equal_dense_numpy_over_all_edges(factory, reg_weight):
    bench = factory(edge_dropout=0.0, reg_weight=reg_weight)
    interaction = batch(bench)
    assert_loss_and_gradients(
        bench, interaction, lambda w: loss_in_numpy(w, bench, interaction, reg_weight=reg_weight)
    )


def test_trained_features_have_right_gradients(factory):
    bench = factory(edge_dropout=0.0, train_features=True)
    interaction = batch(bench)
    assert_loss_and_gradients(bench, interaction, lambda w: loss_in_numpy(w, bench, interaction))
    assert all(bench.model.features[name].grad.any() for name in features(bench))


def test_loss_and_gradients_equal_dense_numpy_over_the_epochs_edges(factory):
    bench = factory()
    interaction = batch(bench)
    bench.model.train().begin_epoch()
    # degrees are those of the edges that are left
    adjacency = bipartite(kept(bench.model))
    assert_loss_and_gradients(
        bench, interaction, lambda w: loss_in_numpy(w, bench, interaction, adjacency)
    )
    everything = loss_in_numpy(weights(bench.model), bench, interaction)
    assert bench.model.calculate_loss(interaction).item() != pytest.approx(everything, rel=1e-3)


@pytest.mark.parametrize("edge_dropout", [0.25, 0.5, 0.8])
def test_an_epoch_keeps_its_share_of_the_training_edges(factory, edge_dropout):
    bench = factory(edge_dropout=edge_dropout)
    interactions = incidence(bench)
    torch.manual_seed(0)
    for _ in range(5):
        bench.model.begin_epoch()
        edges = kept(bench.model)
        assert edges.sum() == int(interactions.sum() * (1 - edge_dropout))
        assert not edges[interactions == 0].any()
        np.testing.assert_allclose(
            bench.model._sampled.to_dense().numpy(), bipartite(edges), rtol=1e-6
        )


def test_without_dropout_an_epoch_draws_nothing(factory):
    bench = factory(edge_dropout=0.0)
    before = torch.get_rng_state()
    bench.model.train().begin_epoch()
    found = bench.model.calculate_loss(batch(bench)).item()
    assert found == pytest.approx(loss_in_numpy(weights(bench.model), bench, batch(bench)))
    assert torch.equal(torch.get_rng_state(), before)


def test_epochs_differ_and_batches_of_an_epoch_do_not(factory):
    bench = factory()
    model, interaction = bench.model.train(), batch(bench)
    torch.manual_seed(0)
    epochs = []
    for _ in range(4):
        model.begin_epoch()
        epochs.append(kept(model))
        losses = [model.calculate_loss(interaction).item() for _ in range(2)]
        assert losses[0] == losses[1]
    assert len({edges.tobytes() for edges in epochs}) > 1


def test_the_trainer_begins_each_epoch(factory, monkeypatch):
    from recbole_llm.model.freedom import FREEDOM

    calls = []
    begin_epoch = FREEDOM.begin_epoch
    monkeypatch.setattr(FREEDOM, "begin_epoch", lambda self: calls.append(1) or begin_epoch(self))
    factory(epochs=3)
    assert len(calls) == 3


def test_edges_of_popular_nodes_are_kept_less_often(factory):
    bench = factory(edge_dropout=0.5)
    interactions = incidence(bench)
    torch.manual_seed(0)
    counts = np.zeros_like(interactions)
    for _ in range(300):
        bench.model.begin_epoch()
        counts += kept(bench.model)
    # 1 / sqrt(d_u d_i) of every training edge
    chance = bipartite(interactions)[: len(interactions), len(interactions) :]
    rarest, most = chance[interactions > 0].min(), chance.max()
    assert most > 2 * rarest
    often = counts[np.isclose(chance, most)].mean()
    assert often > 1.3 * counts[np.isclose(chance, rarest)].mean()


def test_evaluation_has_all_edges(factory):
    bench = factory(epochs=1)
    assert kept(bench.model).sum() < incidence(bench).sum()
    bench.model.eval()
    user_emb, item_emb = bench.model.embeddings()
    expected = forward_in_numpy(weights(bench.model), bench)
    np.testing.assert_allclose(torch.cat([user_emb, item_emb]).numpy(), expected, atol=3e-6)


def test_bad_weights_stop_the_model(factory):
    with pytest.raises(ValueError, match="modality_weights"):
        factory(modality_weights={"image": 2.0})


def test_no_modality_is_an_error_that_says_what_to_do(world):
    assert_needs_modalities(world, "FREEDOM")
