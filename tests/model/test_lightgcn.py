import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.model.general_recommender.lightgcn import LightGCN as RecBoleLightGCN

N_LAYERS = 3


@pytest.fixture
def bench(world, clicks):
    world.write(clicks(parity=False))
    return world.bench("LightGCN", n_layers=N_LAYERS, reg_weight=0.1, require_pow=True)


def all_pairs(model):
    user = torch.arange(model.n_users).repeat_interleave(model.n_items)
    item = torch.arange(model.n_items).repeat(model.n_users)
    return Interaction({"user_id": user, "item_id": item})


@pytest.mark.filterwarnings("ignore:torch.sparse.SparseTensor")
def test_equals_recboles_on_the_same_weights(bench):
    ours = bench.model
    theirs = RecBoleLightGCN(bench.config, bench.split.train)
    theirs.load_state_dict(ours.state_dict())
    for found, expected in zip(ours(), theirs(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)

    batch = bench.batches()[0]
    found, expected = ours.calculate_loss(batch), theirs.calculate_loss(batch)
    assert found.dim() == 0
    torch.testing.assert_close(found, expected.squeeze(), rtol=1e-6, atol=1e-6)
    found.backward()
    expected.squeeze().backward()
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(
            weight.grad, theirs.get_parameter(name).grad, rtol=1e-5, atol=1e-7
        )

    ours.eval(), theirs.eval()
    users = Interaction({"user_id": torch.arange(1, ours.n_users)})
    torch.testing.assert_close(
        ours.full_sort_predict(users), theirs.full_sort_predict(users), rtol=0, atol=1e-6
    )
    pairs = all_pairs(ours)
    torch.testing.assert_close(ours.predict(pairs), theirs.predict(pairs), rtol=0, atol=1e-6)


def test_forward_equals_dense_numpy(bench):
    model, inter = bench.model, bench.split.train.inter_feat
    n_users, n_nodes = model.n_users, model.n_users + model.n_items
    adjacency = np.zeros((n_nodes, n_nodes))
    for user, item in zip(inter["user_id"], inter["item_id"], strict=True):
        adjacency[user, n_users + item] = adjacency[n_users + item, user] = 1
    degree = adjacency.sum(axis=1)
    scale = np.divide(1, np.sqrt(degree), out=np.zeros(n_nodes), where=degree > 0)
    norm_adj = scale[:, None] * adjacency * scale
    weights = model.user_embedding.weight, model.item_embedding.weight
    layer = np.concatenate([w.detach().double().numpy() for w in weights])
    layers = [layer]
    for _ in range(N_LAYERS):
        layers.append(norm_adj @ layers[-1])
    expected = np.mean(layers, axis=0)
    found = torch.cat(model()).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_predict_equals_full_sort_predict(bench):
    model = bench.model.eval()
    scores = model.full_sort_predict(Interaction({"user_id": torch.arange(model.n_users)}))
    assert scores.shape == (model.n_users * model.n_items,)
    torch.testing.assert_close(model.predict(all_pairs(model)), scores, rtol=1e-6, atol=1e-7)


def test_evaluation_propagates_once_and_scores_as_fresh(bench, monkeypatch):
    model = bench.model.eval()
    calls = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda: calls.append(1) or forward())
    users = Interaction({"user_id": torch.arange(model.n_users)})
    fresh, cached = model.full_sort_predict(users), model.full_sort_predict(users)
    model.predict(users.update(Interaction({"item_id": torch.ones(model.n_users).long()})) or users)
    assert len(calls) == 1
    assert torch.equal(fresh, cached)
    assert not cached.requires_grad
    user_emb, item_emb = forward()
    torch.testing.assert_close(cached, (user_emb @ item_emb.T).flatten())


@pytest.mark.parametrize("change", ["train_step", "load_state_dict"])
def test_evaluation_cache_is_dropped_when_weights_change(bench, change):
    model = bench.model.eval()
    users = Interaction({"user_id": torch.arange(model.n_users)})
    before = model.full_sort_predict(users)
    if change == "train_step":
        model.train()
        with torch.no_grad():
            model.user_embedding.weight.mul_(2)
            model.item_embedding.weight.mul_(2)
        model.eval()
    else:
        doubled = {name: 2 * weight for name, weight in model.state_dict().items()}
        model.load_state_dict(doubled)
    torch.testing.assert_close(model.full_sort_predict(users), 4 * before)


def test_training_mode_never_reads_the_cache(bench):
    model = bench.model.train()
    users = Interaction({"user_id": torch.arange(model.n_users)})
    before = model.full_sort_predict(users)
    with torch.no_grad():
        model.user_embedding.weight.mul_(2)
        model.item_embedding.weight.mul_(2)
    torch.testing.assert_close(model.full_sort_predict(users), 4 * before)


def test_export_is_what_is_scored_with(bench):
    model = bench.model.eval()
    out = model.export()
    expected = (out["user_embedding"] @ out["item_embedding"].T).flatten()
    users = Interaction({"user_id": torch.arange(model.n_users)})
    torch.testing.assert_close(model.full_sort_predict(users), expected)
