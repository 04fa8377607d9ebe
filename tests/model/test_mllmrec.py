"""Eq. 6 to 15 against float64 numpy, every switch, and profiles from a folder."""

import json

import numpy as np
import pytest
import torch
from dense import (
    assert_loss_and_gradients,
    assert_needs_modalities,
    batch,
    bipartite,
    features,
    ids,
    incidence,
    maker,
    unit,
    weights,
    write_toy,
)
from recbole.data.interaction import Interaction

from recbole_llm.data.tie_order import tie_order
from recbole_llm.files import sha256_of

SETTINGS = {
    "protocol": "loo",
    "embedding_size": 6,
    "hidden_size": 7,
    "semantic_k": 4,
    "similarity_threshold": 0.2,
    "cooccurrence_k": 2,
}
SWITCHES = [
    {},
    {"use_denoising": False},
    {"use_enhancement": False},
    {"use_gcn_ii": False},
    {"n_item_layers": 2},
    {"user_profile": "random"},
    {"use_gcn_ui": True},
    {"use_gcn_ui": True, "n_layers": 1},
]
factory = maker("MLLMRec", SETTINGS)


def refined(config, feature, interactions, tokens):
    """N^-1/2 S* N^-1/2 of eq. 11, by loops; equal coefficients in the order of a hash."""
    place = tie_order(tokens)
    n = len(feature)
    cosine = unit(feature) @ unit(feature).T
    total = np.zeros((n, n))
    usable = [i for i in range(1, n) if feature[i].any()]
    for a in usable:
        for b in sorted(usable, key=lambda b: -cosine[a, b])[: config["semantic_k"]]:
            near = cosine[a, b] >= config["similarity_threshold"]
            total[a, b] += near or not config["use_denoising"]
    for a in range(n) if config["use_enhancement"] else []:
        jaccard = np.zeros(n)
        for b in range(n):
            either = (interactions[:, a] + interactions[:, b] > 0).sum()
            if a != b and either:
                jaccard[b] = (interactions[:, a] * interactions[:, b]).sum() / either
        for b in sorted(range(n), key=lambda b: (-jaccard[b], place[b]))[
            : config["cooccurrence_k"]
        ]:
            total[a, b] += jaccard[b]
    degree = total.sum(axis=1)
    scale = np.array([1 / np.sqrt(d) if d else 0 for d in degree])
    return scale[:, None] * total * scale


def tokens_of(bench):
    return bench.split.dataset.field2id_token["item_id"]


def mlp(w, name, rows):
    hidden = rows @ w[f"{name}.0.weight"].T + w[f"{name}.0.bias"]
    hidden = np.where(hidden > 0, hidden, 0.01 * hidden)
    return hidden @ w[f"{name}.2.weight"].T + w.get(f"{name}.2.bias", 0.0)


def embeddings(w, bench):
    config, interactions = bench.config, incidence(bench)
    feature = np.concatenate([unit(x) for x in features(bench).values()], axis=1)
    total = hidden = feature
    if config["use_gcn_ii"]:
        graph = refined(config, feature, interactions, tokens_of(bench))
        for _ in range(config["n_item_layers"]):
            hidden = graph @ hidden
            total = total + hidden
    items = mlp(w, "item_mlp", total)
    if config["user_profile"] == "random":
        users = w["user_embedding.weight"]
    else:
        count = np.maximum(interactions.sum(axis=1, keepdims=True), 1)
        users = mlp(w, "user_mlp", interactions @ feature / count)
    if config["use_gcn_ui"]:
        start = np.concatenate([users, items])
        layers = [unit(start)]
        for _ in range(config["n_layers"]):
            layers.append(bipartite(interactions) @ layers[-1])
        users, items = np.split(start + np.sum(layers, axis=0), [len(users)])
    return users, items


def loss_in_numpy(w, bench, interaction):
    users, items = embeddings(w, bench)
    user, pos, neg = ids(interaction)
    margin = (users[user] * (items[pos] - items[neg])).sum(axis=1)
    return np.log1p(np.exp(-margin)).mean()


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_scores_loss_and_gradients_equal_numpy(factory, switches):
    bench = factory(**switches)
    users, items = embeddings(weights(bench.model), bench)
    every = Interaction({"user_id": torch.arange(bench.model.n_users)})
    found = bench.model.eval().full_sort_predict(every).view(len(users), len(items))
    np.testing.assert_allclose(found.detach().numpy(), users @ items.T, atol=1e-5)
    rows = batch(bench)
    assert_loss_and_gradients(bench, rows, lambda w: loss_in_numpy(w, bench, rows))


def test_each_switch_changes_the_scores(factory):
    losses = []
    for switches in SWITCHES:
        torch.manual_seed(0)
        losses.append(factory(**switches).model.calculate_loss(batch(factory())).item())
    assert len(set(losses)) == len(losses)


@pytest.fixture
def profiles(tmp_path):
    """A finished profile set of three of the five users, and of one that is unknown."""

    def write(leaky=False, rows=4, ids=("u3", "u0", "someone", "u1"), report=None):
        mark = ".LEAKY" if leaky else ""
        folder = tmp_path / "profiles"
        folder.mkdir(exist_ok=True)
        feature = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float16)
        np.save(folder / f"user_profile_feat{mark}.npy", feature)
        (folder / f"user_profile_ids{mark}.txt").write_text("\n".join(ids) + "\n")
        files = {path.name: sha256_of(path) for path in folder.glob("user_profile_*")}
        content = json.dumps({"leaky": leaky, "split": "x", "files": files})
        (folder / "report.json").write_text(report or content)
        return folder, feature

    return write


def test_profiles_are_aligned_to_the_users(factory, profiles):
    folder, feature = profiles()
    bench = factory(user_profile=str(folder))
    place = {t: i for i, t in enumerate(bench.split.dataset.field2id_token["user_id"])}
    expected = np.zeros((6, 3), dtype=np.float32)
    for row, user in ((0, "u3"), (1, "u0"), (3, "u1")):
        expected[place[user]] = feature[row]
    np.testing.assert_array_equal(bench.model.user_feature.numpy(), expected)
    (profile_set,) = bench.split.dataset.profile_sets.values()
    assert profile_set.n_missing == 2 and not profile_set.is_leaky


def test_a_leaky_profile_set_says_so(factory, profiles):
    bench = factory(user_profile=str(profiles(leaky=True)[0]))
    assert next(iter(bench.split.dataset.profile_sets.values())).is_leaky


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"report": "{"}, ValueError, "report.json is damaged"),
        ({"report": '{"leaky": false}'}, ValueError, "report.json is damaged .*split"),
        (
            {"report": '{"leaky": true, "split": "x"}'},
            FileNotFoundError,
            r"feat.LEAKY.npy does not",
        ),
        ({"rows": 3}, ValueError, "expected one row for each of the 4 lines"),
        ({"ids": ("u0", "u0", "u1", "u2")}, ValueError, "must differ from each other"),
        ({"ids": ("a", "b", "c", "d")}, ValueError, "none of the 5 users of this dataset"),
    ],
)
def test_bad_profile_sets(factory, profiles, wrong, error, message):
    folder, _ = profiles(**wrong)
    with pytest.raises(error, match=message):
        factory(user_profile=str(folder))


@pytest.mark.parametrize("name", ["user_profile_feat.npy", "user_profile_ids.txt"])
def test_a_changed_file_of_a_profile_set_is_refused(factory, profiles, name):
    folder, feature = profiles()
    if name.endswith(".npy"):
        np.save(folder / name, feature + 1)
    else:
        (folder / name).write_text("u0\nu1\nu2\nu3\n")
    with pytest.raises(ValueError, match=rf"profiles/{name} is not the file that report\.json"):
        factory(user_profile=str(folder))


def test_a_profile_set_without_checksums_is_refused(factory, profiles):
    folder, _ = profiles(report='{"leaky": false, "split": "x"}')
    with pytest.raises(ValueError, match="sha256 None there"):
        factory(user_profile=str(folder))


def test_needs_modalities(world):
    assert_needs_modalities(world, "MLLMRec")


@pytest.mark.parametrize("model", ["FREEDOM", "LATTICE", "MGCN", "GUME", "COHESION", "SMORE"])
def test_refined_graph_takes_the_place_of_the_neighbours(world, model):
    write_toy(world)
    settings = {"protocol": "loo", "embedding_size": 6, "semantic_k": 4, "cooccurrence_k": 2}
    settings |= {"similarity_threshold": 0.2, "knn_k": 4}
    if model in ("FREEDOM", "COHESION"):
        settings["modality_weights"] = {"image": 0.3}
    if model == "SMORE":
        settings["modality_knn_k"] = None
    bench = world.bench(model, graph_refinement=True, **settings)
    config = {**settings, "use_denoising": True, "use_enhancement": True}
    expected = {
        name: refined(config, feature, incidence(bench), tokens_of(bench))
        for name, feature in features(bench).items()
    }
    if hasattr(bench.model, "item_graph"):  # one mixture of all modalities
        graphs = {"all": bench.model.item_graph}
        expected = {"all": 0.3 * expected["image"] + 0.7 * expected["text"]}
    else:
        graphs = getattr(bench.model, "initial_graphs", None) or bench.model.item_graphs
    for name, graph in expected.items():
        np.testing.assert_allclose(graphs[name].matrix.to_dense().numpy(), graph, atol=1e-6)
    torch.manual_seed(0)
    loss = bench.model.calculate_loss(batch(bench))
    torch.manual_seed(0)
    plain = world.bench(model, **settings)
    assert loss != plain.model.calculate_loss(batch(bench))
