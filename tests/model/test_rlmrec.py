"""Both alignments with profiles against dense float64 numpy, and the graph that is drawn."""

import json

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
    features,
    ids,
    incidence,
    maker,
    mean_of_layers,
    tables,
    unit,
    weights,
    write_toy,
)

from recbole_llm.files import sha256_of

SETTINGS = {
    "protocol": "loo",
    "embedding_size": 6,
    "n_layers": 2,
    "edge_dropout": 0.0,
    "reg_weight": 0.03,
    "temperature": 0.4,
}
con = maker("RLMRecCon", SETTINGS | {"cl_weight": 0.3})
gen = maker("RLMRecGen", SETTINGS | {"mask_ratio": 0.4, "recon_weight": 0.3})


def sum_of_layers(w, bench, hidden, adjacency=None):
    adjacency = bipartite(incidence(bench)) if adjacency is None else adjacency
    return (SETTINGS["n_layers"] + 1) * mean_of_layers(adjacency, hidden, SETTINGS["n_layers"])


def profiles(bench):
    """Items side by side with unit rows; users the mean of their training items."""
    item = np.hstack([unit(feature) for feature in features(bench).values()])
    interactions = incidence(bench)
    return interactions @ item / np.maximum(interactions.sum(axis=1, keepdims=True), 1), item


def mlp(w, rows):
    hidden = affine(w, "mlp.0", rows)
    return affine(w, "mlp.2", np.where(hidden > 0, hidden, 0.01 * hidden))


def contrast(anchor, positive, candidates):
    similarity = np.exp(unit(anchor) @ unit(candidates).T / SETTINGS["temperature"])
    own = np.exp((unit(anchor) * unit(positive)).sum(axis=1) / SETTINGS["temperature"])
    return np.mean(np.log(similarity.sum(axis=1)) - np.log(own))


def base_loss(w, bench, interaction, out):
    user, pos, neg = ids(interaction)
    item = bench.model.n_users
    squares = sum((weight**2).sum() for weight in w.values())
    return bpr(out[user], out[item + pos], out[item + neg]) + SETTINGS["reg_weight"] * squares


def con_loss(w, bench, interaction):
    out = sum_of_layers(w, bench, tables(w))
    user, pos, neg = ids(interaction)
    of_users, of_items = (mlp(w, rows) for rows in profiles(bench))
    total = contrast(out[user], of_users[user], of_users[1:])
    for item in (pos, neg):
        total += contrast(out[bench.model.n_users + item], of_items[item], of_items[item])
    return base_loss(w, bench, interaction, out) + 0.3 * total


def gen_loss(w, bench, interaction, nodes):
    hidden = tables(w)
    hidden[nodes] = w["mask_token"]
    out = sum_of_layers(w, bench, hidden)
    profile = np.concatenate(profiles(bench))[nodes]
    total = contrast(mlp(w, out[nodes]), profile, profile)
    return base_loss(w, bench, interaction, out) + 0.3 * total


def test_contrastive_loss_and_gradients_equal_dense_numpy(con):
    bench = con()
    assert_forward(bench, sum_of_layers(weights(bench.model), bench, tables(weights(bench.model))))
    interaction = batch(bench)
    assert_loss_and_gradients(bench, interaction, lambda w: con_loss(w, bench, interaction))


def test_generative_loss_and_gradients_equal_dense_numpy(gen):
    bench = gen()
    interaction = batch(bench)
    torch.manual_seed(0)
    nodes = bench.model.masked_nodes().numpy()
    torch.manual_seed(0)
    assert_loss_and_gradients(bench, interaction, lambda w: gen_loss(w, bench, interaction, nodes))
    assert_forward(bench, sum_of_layers(weights(bench.model), bench, tables(weights(bench.model))))


def test_masked_nodes_are_users_and_items_without_padding(gen):
    model = gen().model
    n_nodes = model.n_users + model.n_items
    torch.manual_seed(0)
    drawn = [model.masked_nodes() for _ in range(200)]
    assert all(len(set(node.tolist())) == int(0.4 * (n_nodes - 2)) for node in drawn)
    counts = np.bincount(torch.cat(drawn), minlength=n_nodes)
    assert counts[0] == counts[model.n_users] == 0
    assert np.delete(counts, [0, model.n_users]).min() > 40  # 80 are expected, with deviation 7


def test_training_leaves_out_entries_of_the_graph_and_evaluation_none(con):
    bench = con(edge_dropout=0.5)
    model, w, full = bench.model, weights(bench.model), bipartite(incidence(bench))
    torch.manual_seed(0)
    graph, transpose = model.sampled_graph()
    kept = graph.to_dense().double().numpy()
    np.testing.assert_array_equal(transpose.to_dense().numpy().T, kept.astype(np.float32))
    assert ((kept == 0) | np.isclose(kept, full)).all() and (kept != kept.T).any()
    assert 0.2 < (kept > 0).sum() / (full > 0).sum() < 0.8
    torch.manual_seed(0)
    model.train()
    found = torch.cat(model()).detach().numpy()
    np.testing.assert_allclose(found, sum_of_layers(w, bench, tables(w), kept), atol=3e-6)
    model.eval()
    assert_forward(bench, sum_of_layers(w, bench, tables(w)))


@pytest.fixture
def written(tmp_path):
    """Write profiles of a width for all users, and return their folder."""

    def write(width):
        feature = np.random.default_rng(0).normal(size=(5, width)).astype(np.float32)
        np.save(tmp_path / "user_profile_feat.npy", feature)
        (tmp_path / "user_profile_ids.txt").write_text("u0\nu1\nu2\nu3\nu4\n")
        files = {path.name: sha256_of(path) for path in tmp_path.glob("user_profile_*")}
        report = {"leaky": False, "split": "x", "files": files}
        (tmp_path / "report.json").write_text(json.dumps(report))
        return str(tmp_path)

    return write


def test_written_profiles_take_the_place_of_the_mean(con, world, written):
    write_toy(world, 1)
    bench, folder = con(), written(4)
    other = con(user_profile=folder)
    users = other.split.dataset.token2id("user_id", [f"u{n}" for n in range(5)])
    expected = np.load(f"{folder}/user_profile_feat.npy")
    np.testing.assert_array_equal(other.model.user_profile[users].numpy(), expected)
    assert other.model.calculate_loss(batch(other)) != bench.model.calculate_loss(batch(bench))


def test_profiles_of_another_width_are_refused(gen, world, written):
    write_toy(world, 1)
    with pytest.raises(ValueError, match="have 3 columns, the items' features 4.*`modalities`"):
        gen(user_profile=written(3))


@pytest.mark.parametrize("model", ["RLMRecCon", "RLMRecGen"])
def test_no_modality_is_an_error_that_says_what_to_do(world, model):
    assert_needs_modalities(world, model)
