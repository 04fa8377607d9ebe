"""Views, the main loss and the four self-supervised tasks against dense float64 numpy."""

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
    features,
    ids,
    incidence,
    maker,
    mean_of_layers,
    shaken,
    unit,
    weights,
    write_toy,
)

from recbole_llm.model.slmrec import SLMRec

SETTINGS = {
    "protocol": "loo",
    "embedding_size": 6,
    "n_layers": 2,
    "temperature": 0.3,
    "ssl_task": "FAC",
    "ssl_weight": 0.7,
    "ssl_temperature": 0.4,
    "dropout": 0.3,
}
factory = maker("SLMRec", SETTINGS)


def views_in_numpy(w, bench, masked=None):
    """Return (N, d) of the id and of each modality; the features have length 1."""
    adjacency, out = bipartite(incidence(bench)), []
    items = [w["item_embedding.weight"]]
    for name, feature in features(bench).items():
        np.testing.assert_allclose(unit(feature), feature, atol=1e-6)
        items.append(affine(w, f"project.{name}", feature))
    for place, item_h in enumerate(items):
        start = np.concatenate([w["user_embedding.weight"], item_h * (place != masked)])
        out.append(mean_of_layers(adjacency, start, SETTINGS["n_layers"]))
    return out


def fused_in_numpy(w, bench, masked=None):
    views = np.concatenate(views_in_numpy(w, bench, masked), axis=1)
    n_users = bench.model.n_users
    parts = affine(w, "fuse_user", views[:n_users]), affine(w, "fuse_item", views[n_users:])
    return np.concatenate(parts)


def softmax_of_positives(anchor, other, temperature):
    """Return the mean of -log of the share that each row's own partner has."""
    exp = np.exp(anchor @ other.T / temperature)
    return -np.log(np.diag(exp) / exp.sum(axis=1)).mean()


def fac_in_numpy(w, bench, item):
    anchor, *modalities = [v[bench.model.n_users + item] for v in views_in_numpy(w, bench)]
    loss = 0.0
    for place, modality in enumerate(modalities):
        anchor = affine(w, f"anchor_heads.{place}", anchor)
        other = affine(w, f"modality_heads.{place}", modality)
        assert other.shape[1] == (3 if place and place == len(modalities) - 1 else 6)
        loss += softmax_of_positives(anchor, other, SETTINGS["ssl_temperature"])
    return loss


def masked_in_numpy(w, bench, user, item, masked):
    first, second = (fused_in_numpy(w, bench, view) for view in masked)
    nodes = user, bench.model.n_users + item
    return sum(
        softmax_of_positives(unit(first[n]), unit(second[n]), SETTINGS["ssl_temperature"])
        for n in nodes
    )


def loss_in_numpy(w, bench, interaction, masked=None):
    user, item = ids(interaction)
    out, n_users = fused_in_numpy(w, bench), bench.model.n_users
    cosines = unit(out[user]), unit(out[n_users + item])
    loss = softmax_of_positives(*cosines, SETTINGS["temperature"])
    if masked is None:
        return loss + SETTINGS["ssl_weight"] * fac_in_numpy(w, bench, item)
    return loss + SETTINGS["ssl_weight"] * masked_in_numpy(w, bench, user, item, masked)


def test_forward_equals_dense_numpy(factory):
    bench = factory()
    assert_forward(bench, fused_in_numpy(weights(bench.model), bench))


@pytest.mark.parametrize("n_modalities", [1, 2, 3])
def test_loss_and_gradients_of_the_fine_and_coarse_task(world, n_modalities):
    write_toy(world, n_modalities)
    bench = shaken(world.bench("SLMRec", **SETTINGS))
    interaction = batch(bench, negatives=False)
    assert_loss_and_gradients(bench, interaction, lambda w: loss_in_numpy(w, bench, interaction))


@pytest.mark.parametrize("masked", [(0, 2), (2, 1), (1, 0)])
def test_loss_and_gradients_of_the_masking_task(factory, masked, monkeypatch):
    bench = factory(ssl_task="FM")
    order = [*masked, *({0, 1, 2} - set(masked))]
    monkeypatch.setattr(torch, "randperm", lambda n: torch.tensor(order))
    interaction = batch(bench, negatives=False)
    assert_loss_and_gradients(
        bench, interaction, lambda w: loss_in_numpy(w, bench, interaction, masked)
    )


def test_the_masked_views_differ_from_each_other(factory, monkeypatch):
    bench, seen = factory(ssl_task="FM"), []
    views = SLMRec.views
    monkeypatch.setattr(
        SLMRec, "views", lambda self, *given: seen.append(given) or views(self, *given)
    )
    for _ in range(30):
        bench.model.calculate_loss(batch(bench, negatives=False))
    masked = [given[0] for given in seen if given]
    pairs = set(zip(masked[::2], masked[1::2], strict=True))
    assert len(pairs) == 6 and all(first != second for first, second in pairs)
    assert {given[1] for given in seen if given} == {0.0}


@pytest.mark.parametrize("task", ["FD", "FD+FM"])
def test_without_dropout_the_dropout_tasks_are_the_others(factory, task):
    bench = factory(ssl_task=task, dropout=0.0)
    interaction = batch(bench, negatives=False)
    torch.manual_seed(0)
    masked = torch.randperm(3)[:2].tolist() if "FM" in task else (None, None)
    torch.manual_seed(0)
    found = bench.model.calculate_loss(interaction).item()
    expected = loss_in_numpy(weights(bench.model), bench, interaction, masked)
    assert found == pytest.approx(expected, rel=1e-5)
    dropped = factory(ssl_task=task, dropout=0.5)
    assert dropped.model.calculate_loss(interaction).item() != pytest.approx(expected, rel=1e-4)


def test_dropout_keeps_the_mean_of_propagated_numbers(factory):
    bench = factory(ssl_task="FD")
    torch.manual_seed(0)
    users, items = bench.model.views()
    mean = torch.zeros_like(items)
    for _ in range(4000):
        mean += bench.model.views(None, 0.3)[1].detach() / 4000
    np.testing.assert_allclose(mean, items.detach(), atol=0.03)
    assert not torch.equal(bench.model.views(None, 0.3)[0], users)


def test_no_modality_is_an_error_that_says_what_to_do(world):
    assert_needs_modalities(world, "SLMRec")
