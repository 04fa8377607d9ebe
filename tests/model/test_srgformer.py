"""Each part and both contrasts against dense float64 numpy, and the switches of the ablations."""

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
    softmax,
    tables,
    unit,
    weights,
    write_toy,
)

from recbole_llm.graph.sparse import csr_matrix
from recbole_llm.model.srgformer import EdgeAttention

SETTINGS = {
    "protocol": "loo",
    "embedding_size": 6,
    "n_layers": 2,
    "n_modality_layers": 3,
    "n_heads": 2,
    "n_hyper_layers": 1,
    "n_hyperedges": 3,
    "hyper_dropout": 0.0,
    "global_weight": 0.6,
    "local_weight": 0.8,
    "hyper_cl_weight": 0.02,
    "modality_cl_weight": 0.03,
    "reg_weight": 0.05,
    "temperature": 0.7,
}
SWITCHES = ("use_global", "use_local", "use_hyper_cl", "use_modality_cl")
factory = maker("SRGFormer", SETTINGS)


def attention_in_numpy(w, edges, hidden, n_heads):
    """Multi-head attention of each node over its neighbours, logits within [-10, 10]."""
    query, key, value = (affine(w, name, hidden) for name in ("query", "key", "value"))
    out = np.zeros_like(hidden)
    width = hidden.shape[1] // n_heads
    for node, row in enumerate(edges):
        others = row.nonzero()[0]
        if not len(others):
            continue
        for head in range(n_heads):
            part = slice(head * width, (head + 1) * width)
            logit = np.clip(key[others, part] @ query[node, part], -10, 10)
            out[node, part] = softmax(logit) @ value[others, part]
    return out


def views_in_numpy(
    w, bench, n_hyper_layers=1, use_global=True, use_local=True, attention_input="propagated"
):
    """Return the final embeddings, and each modality's: by features and by hyperedges."""
    adjacency = bipartite(incidence(bench))
    collaborative = mean_of_layers(adjacency, tables(w), SETTINGS["n_layers"])
    out, modality, hyper = collaborative, [], []
    for name in features(bench):
        modality.append(modality_view(w, bench, name, SETTINGS["n_modality_layers"]))
        out = out + unit(modality[-1])
    if use_global:
        layers = {
            f"{name}.weight": w[f"attention.{name}.weight"] for name in ("query", "key", "value")
        }
        hidden = {"propagated": collaborative, "ids": tables(w)}[attention_input]
        attended = attention_in_numpy(layers, adjacency, hidden, SETTINGS["n_heads"])
        out = out + SETTINGS["global_weight"] * unit(attended)
    if use_local:
        item_emb = collaborative[bench.model.n_users :]
        hyper = [
            hypergraph_view(w, bench, name, item_emb, n_hyper_layers, SETTINGS["temperature"])
            for name in features(bench)
        ]
        out = out + SETTINGS["local_weight"] * unit(sum(hyper))
    return out, modality, hyper


def loss_in_numpy(
    w,
    bench,
    interaction,
    n_hyper_layers=1,
    use_global=True,
    use_local=True,
    use_hyper_cl=True,
    use_modality_cl=True,
    attention_input="propagated",
):
    out, modality, hyper = views_in_numpy(
        w, bench, n_hyper_layers, use_global, use_local, attention_input
    )
    user, pos, neg = ids(interaction)
    n_users = bench.model.n_users
    batch_rows = out[user], out[n_users + pos], out[n_users + neg]
    loss = bpr(*batch_rows) + SETTINGS["reg_weight"] * half_squares(*batch_rows)
    for used, weight, views in (
        (use_hyper_cl, SETTINGS["hyper_cl_weight"], hyper),
        (use_modality_cl, SETTINGS["modality_cl_weight"], modality),
    ):
        if used:
            contrast = contrast_of_pairs(views, user, pos, n_users, SETTINGS["temperature"])
            loss += weight * contrast
    return loss


# ---- attention over edges


@pytest.mark.parametrize("n_heads", [1, 2, 6])
@pytest.mark.parametrize("size", [0.5, 5.0])
def test_attention_equals_dense_numpy(n_heads, size):
    rng = np.random.default_rng(0)
    edges = rng.random((8, 8)) < 0.4
    edges[[0, 5]] = False  # two nodes have no neighbours
    row, col = edges.nonzero()
    torch.manual_seed(0)
    layer = EdgeAttention(csr_matrix(row, col, rng.random(len(row)), (8, 8)), 6, n_heads).double()
    hidden = size * torch.randn(8, 6, dtype=torch.float64)
    w = weights(layer)
    expected = attention_in_numpy(w, edges, hidden.numpy(), n_heads)
    logit = affine(w, "query", hidden.numpy()) @ affine(w, "key", hidden.numpy()).T
    if n_heads == 1:  # small ones are within the clamp, large ones are not
        assert (np.abs(logit[edges]).max() > 10) == (size == 5.0)
    np.testing.assert_allclose(layer(hidden).detach().numpy(), expected, rtol=1e-9, atol=1e-12)
    assert not layer(hidden)[[0, 5]].any()


def test_attention_gradients():
    row, col = np.array([0, 0, 1, 3, 3, 3]), np.array([1, 2, 0, 0, 1, 3])
    torch.manual_seed(0)
    layer = EdgeAttention(csr_matrix(row, col, None, (4, 4)), 6, 2).double()
    hidden = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def call(hidden, *given):
        return torch.func.functional_call(layer, dict(zip(names, given, strict=True)), (hidden,))

    assert torch.autograd.gradcheck(call, (hidden, *layer.parameters()))


@pytest.mark.parametrize(
    ("n_heads", "message"),
    [
        (4, "divisible by n_heads, got 6 and 4"),
        (7, "divisible by n_heads, got 6 and 7"),
        (0, "n_heads must be an integer >= 1, got n_heads=0"),
    ],
)
def test_width_not_divisible_by_heads(factory, n_heads, message):
    with pytest.raises(ValueError, match=message):
        factory(n_heads=n_heads)


def test_heads_are_not_checked_without_attention(factory):
    factory(n_heads=4, use_global=False)


# ---- the whole


@pytest.mark.parametrize("n_modalities", [1, 2, 3])
@pytest.mark.parametrize("n_hyper_layers", [1, 2])
def test_forward_equals_dense_numpy(factory, world, n_modalities, n_hyper_layers):
    write_toy(world, n_modalities)
    bench = factory(n_hyper_layers=n_hyper_layers, hyper_dropout=0.5)
    bench.model.eval()
    expected, modality, hyper = views_in_numpy(weights(bench.model), bench, n_hyper_layers)
    assert_forward(bench, expected)
    views = bench.model.views()
    for found, view in zip(views.modality, modality, strict=True):
        np.testing.assert_allclose(found.detach().numpy(), view, rtol=1e-4, atol=3e-6)
    for found, view in zip(views.hyper, hyper, strict=True):
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


def test_attention_over_the_id_embeddings(factory, no_noise):
    bench = factory(attention_input="ids")
    bench.model.train()
    interaction = batch(bench)
    assert_loss_and_gradients(
        bench, interaction, lambda w: loss_in_numpy(w, bench, interaction, attention_input="ids")
    )


@pytest.mark.parametrize(
    "off", [(switch,) for switch in SWITCHES] + [SWITCHES[:2], SWITCHES[2:], SWITCHES]
)
def test_switches_remove_their_part_only(factory, no_noise, off):
    bench = factory(**dict.fromkeys(off, False))
    names = {name.split(".")[0] for name, _ in bench.model.named_parameters()}
    expected = {"user_embedding", "item_embedding", "project"}
    expected |= {"attention"} if "use_global" not in off else set()
    expected |= {"hyperedges"} if "use_local" not in off else set()
    assert names == expected

    switches = dict.fromkeys(off, False)
    sides = {key: value for key, value in switches.items() if key in SWITCHES[:2]}
    if "use_local" in off:
        switches["use_hyper_cl"] = False  # there is nothing to contrast
    interaction = batch(bench)
    w = weights(bench.model)
    assert_forward(bench, views_in_numpy(w, bench, **sides)[0])
    found = bench.model.train().calculate_loss(interaction).item()
    assert found == pytest.approx(loss_in_numpy(w, bench, interaction, **switches), rel=1e-5)


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_changes_scores_or_loss(factory, no_noise, switch):
    # the weights both have are the same ones
    full, without = factory(), factory(**{switch: False})
    shared = {name: w for name, w in full.model.state_dict().items()}
    without.model.load_state_dict(
        {name: shared[name] for name in without.model.state_dict()}, strict=True
    )
    interaction = batch(full)
    losses = [b.model.train().calculate_loss(interaction).item() for b in (full, without)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)
    same = torch.allclose(scores(full.model.eval()), scores(without.model.eval()), rtol=1e-4)
    assert same == (switch in SWITCHES[2:])


def test_one_modality_has_nothing_to_contrast(factory, world, no_noise):
    write_toy(world, 1)
    losses = []
    for use in (True, False):
        torch.manual_seed(0)
        bench = factory(use_hyper_cl=use, use_modality_cl=use)
        losses.append(bench.model.train().calculate_loss(batch(bench)).item())
    assert losses[0] == losses[1]


def test_each_modality_has_user_memberships_of_its_own(factory):
    bench = factory()
    model, n_users = bench.model.eval(), bench.model.n_users
    w = weights(model)
    of_users = [view.coords[:n_users].detach().numpy() for view in model.views().hyper]
    for (name, feature), found in zip(features(bench).items(), of_users, strict=True):
        affinity = feature @ w[f"hyperedges.{name}.hyperedge"]
        expected = softmax(incidence(bench) @ affinity / SETTINGS["temperature"])
        np.testing.assert_allclose(found, expected, atol=3e-6)
    assert np.abs(of_users[0] - of_users[1]).max() > 0.1
    with torch.no_grad():
        model.hyperedges["text"].hyperedge.mul_(-1)
    image, text = (view.coords[:n_users].detach().numpy() for view in model.views().hyper)
    np.testing.assert_array_equal(image, of_users[0])
    assert np.abs(text - of_users[1]).max() > 0.1


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


def test_without_hyperedges_training_is_deterministic(factory):
    bench = factory(use_local=False)
    model, interaction = bench.model.train(), batch(bench)
    assert torch.equal(model.calculate_loss(interaction), model.calculate_loss(interaction))


def test_padding_item_joins_no_hyperedge_and_no_attention(factory):
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


def test_no_modality_is_an_error_that_says_what_to_do(world):
    assert_needs_modalities(world, "SRGFormer")
