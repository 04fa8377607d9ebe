"""Eq. 1 to 7, 12 and 13 against dense float64 numpy on a dataset small enough to check by eye."""

import numpy as np
import pytest
import torch
from dense import (
    ROWS,
    batch,
    bipartite,
    bpr,
    features,
    half_squares,
    ids,
    incidence,
    mean_of_layers,
    neighbours,
    tables,
    unit,
    weights,
)
from gradients import ROUNDING

from recbole_llm.model.hellm import pretrain

SETTINGS = {
    "embedding_size": 6,
    "n_layers": 2,
    "n_user_layers": 3,
    "n_item_layers": 2,
    "knn_k": 3,
    "u2u_weight": 0.7,
    "i2i_weight": 0.3,
    "temperature": 0.4,
    "reg_weight": 0.05,
}


@pytest.fixture
def factory(world):
    world.write(ROWS)
    world.add_random_modalities(2)
    return lambda **overrides: world.bench("HeLLMPretrain", **{**SETTINGS, **overrides})


def hypergraphs(bench):
    """Return the two hypergraph matrices, built from their definitions."""
    interactions = incidence(bench)
    u2u = interactions @ interactions.T
    np.fill_diagonal(u2u, 0)
    total = u2u.sum(axis=1, keepdims=True)
    u2u = np.divide(u2u, total, out=np.zeros_like(u2u), where=total > 0)

    knn = [neighbours(feature, SETTINGS["knn_k"]) for feature in features(bench).values()]
    joined = np.concatenate(knn, axis=1)  # [I_1 | I_2]
    i2i = joined @ joined.T
    scale = np.zeros(len(i2i))
    scale[1:] = i2i[1:].sum(axis=1) ** -0.5
    return u2u, scale[:, None] * i2i * scale


def forward_in_numpy(bench, use_u2u=True, use_i2i=True):
    """Return the fused users and items, and the user and item levels (eq. 2, 5, 6)."""
    w, (u2u, i2i) = weights(bench.model), hypergraphs(bench)
    out = mean_of_layers(bipartite(incidence(bench)), tables(w), SETTINGS["n_layers"])
    user, item = np.split(out, [bench.model.n_users])
    user_h = item_h = None
    if use_u2u:
        power = np.linalg.matrix_power(u2u, SETTINGS["n_user_layers"])
        user_h = power @ w["user_level.weight"]
        user = user + unit(user_h)
    if use_i2i:
        power = np.linalg.matrix_power(i2i, SETTINGS["n_item_layers"])
        item_h = power @ w["item_level.weight"]
        item = item + unit(item_h)
    return user, item, user_h, item_h


def contrast_in_numpy(anchors, level, emb):
    losses = []
    level, emb = unit(level), unit(emb)  # the level of a user who shares no item is zero
    for anchor in sorted(set(anchors.tolist())):
        similarity = {
            (kind, other): rows[other] @ emb[anchor] / SETTINGS["temperature"]
            for kind, rows in (("level", level), ("emb", emb))
            for other in range(1, len(emb))
        }
        total = sum(np.exp(s) for s in similarity.values())
        losses.append(-np.log(np.exp(similarity["level", anchor]) / total))
    return np.mean(losses)


def loss_in_numpy(bench, interaction, alpha, beta, **switches):
    """Return BPR + alpha L_U2U + beta L_I2I + lambda L2 (eq. 12)."""
    user, item, user_h, item_h = forward_in_numpy(bench, **switches)
    users, pos, neg = ids(interaction)
    rows = user[users], item[pos], item[neg]
    loss = bpr(*rows) + SETTINGS["reg_weight"] * half_squares(*rows)
    if alpha:
        loss += alpha * contrast_in_numpy(users, user_h, user)
    if beta:
        loss += beta * contrast_in_numpy(pos, item_h, item)
    return loss


def test_forward_equals_dense_numpy(factory):
    bench = factory()
    user, item, user_h, item_h = forward_in_numpy(bench)
    for found, expected in zip(bench.model(), (user, item), strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected, atol=2e-6)
    for found, expected in zip(bench.model.levels(), (user_h, item_h), strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected, atol=2e-6)


def test_loss_equals_dense_numpy(factory):
    bench = factory()
    interaction = batch(bench)
    expected = loss_in_numpy(bench, interaction, alpha=0.7, beta=0.3)
    assert bench.model.calculate_loss(interaction).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("use_cl", [True, False])
@pytest.mark.parametrize(("use_u2u", "use_i2i"), [(True, False), (False, True), (False, False)])
def test_switches_remove_their_part_only(factory, use_u2u, use_i2i, use_cl):
    bench = factory(use_u2u=use_u2u, use_i2i=use_i2i, use_cl=use_cl)
    names = {name.split(".")[0] for name, _ in bench.model.named_parameters()}
    assert ("user_level" in names) == use_u2u
    assert ("item_level" in names) == use_i2i
    user, item, _, _ = forward_in_numpy(bench, use_u2u, use_i2i)
    for found, expected in zip(bench.model(), (user, item), strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected, atol=2e-6)
    interaction = batch(bench)
    expected = loss_in_numpy(
        bench,
        interaction,
        alpha=0.7 if use_cl and use_u2u else 0,
        beta=0.3 if use_cl and use_i2i else 0,
        use_u2u=use_u2u,
        use_i2i=use_i2i,
    )
    assert bench.model.calculate_loss(interaction).item() == pytest.approx(expected, rel=1e-5)


def test_without_contrast_both_levels_stay(factory):
    bench = factory(use_cl=False)
    interaction = batch(bench)
    expected = loss_in_numpy(bench, interaction, alpha=0, beta=0)
    assert bench.model.calculate_loss(interaction).item() == pytest.approx(expected, rel=1e-5)


def test_without_hypergraphs_it_is_lightgcn(factory, world):
    bench = factory(use_u2u=False, use_i2i=False)
    lightgcn = world.bench("LightGCN", embedding_size=6, n_layers=2, protocol="loo").model
    lightgcn.load_state_dict(bench.model.state_dict())
    for found, expected in zip(bench.model(), lightgcn(), strict=True):
        assert torch.equal(found, expected)


def test_cl_anchors_bounds_the_anchors_and_not_the_candidates(factory, monkeypatch):
    seen = []

    def record(anchor, positive, candidates, temperature):
        seen.append((anchor, len(anchor), len(positive), len(candidates)))
        return anchor.sum() * 0

    monkeypatch.setattr(pretrain, "info_nce", record)
    bench = factory(cl_anchors=2)
    interaction = batch(bench)
    bench.model.calculate_loss(interaction)
    n_users, n_items = bench.model.n_users - 1, bench.model.n_items - 1
    assert [entry[1:] for entry in seen] == [(2, 2, 2 * n_users), (2, 2, 2 * n_items)]
    user_emb = bench.model()[0]
    of_batch = user_emb[interaction["user_id"].unique()]
    assert all((of_batch == row).all(dim=1).any() for row in seen[0][0])
    assert not torch.equal(seen[0][0][0], seen[0][0][1])

    seen.clear()
    factory(cl_anchors=0).model.calculate_loss(interaction)
    assert [entry[1] for entry in seen] == [
        len(interaction[key].unique()) for key in ("user_id", "item_id")
    ]


def test_gradients_reach_every_row_of_every_table(factory):
    bench = factory()
    bench.model.calculate_loss(batch(bench)).backward()
    lonely = bench.split.dataset.token2id("user_id", "u4")
    for name, weight in bench.model.named_parameters():
        sizes = weight.grad.abs().amax(dim=1)
        missed = (sizes <= ROUNDING * sizes.max()).nonzero().flatten().tolist()
        assert missed == ([0, lonely] if name.startswith("user_level") else [0]), name


def test_no_modality_is_an_error_that_says_what_to_do(world):
    world.write(ROWS)
    with pytest.raises(ValueError, match="use_i2i=false"):
        world.bench("HeLLMPretrain", **SETTINGS)
    world.bench("HeLLMPretrain", **{**SETTINGS, "use_i2i": False})


def test_one_modality_twice_is_the_same_hypergraph(factory, world):
    # [I | I] doubles S, and the normalisation takes the factor away again
    feature = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    world.add_modalities({"image": feature})
    once = factory().model
    world.add_modalities({"image": feature, "text": feature})
    twice = factory().model
    for one, two in zip(once(), twice(), strict=True):
        torch.testing.assert_close(one, two)
