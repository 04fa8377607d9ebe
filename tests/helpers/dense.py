"""What the content models' papers share, in dense float64 numpy, on a dataset of five users."""

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

# The last two of each are held out, so nobody shares a training item with the last user.
ITEMS_OF_USERS = ["01234", "12350", "345016", "567123", "867"]
ROWS = [
    (f"u{user}", f"i{item}", time)
    for user, items in enumerate(ITEMS_OF_USERS)
    for time, item in enumerate(items)
]
NEGATIVES = [3, 7, 6, 1, 2, 4, 9, 5, 3, 1, 2, 5, 8, 8, 2]  # one a training row


def write_toy(world, n_modalities=2):
    """Write five users, nine items, and features of which one item lacks the second modality."""
    world.write(ROWS)
    rng = np.random.default_rng(0)
    names = ("image", "text", "audio")[:n_modalities]
    features = {
        name: rng.normal(size=(len(world.tokens), 4 + place)).astype(np.float32)
        for place, name in enumerate(names)
    }
    if n_modalities > 1:
        features["text"][4] = 0
    world.add_modalities(features)


def shaken(bench):
    """Fill what starts at zero, such as biases, so that a test sees it."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in bench.model.parameters():
            if not weight.any():
                weight.copy_(torch.randn(weight.shape, generator=generator) / 4)
    return bench


def maker(model, settings):
    """Return a fixture: a function that puts a model on the toy dataset, ``shaken``."""

    @pytest.fixture
    def factory(world):
        write_toy(world)
        return lambda **overrides: shaken(world.bench(model, **{**settings, **overrides}))

    return factory


def batch(bench, negatives=True):
    train = bench.split.train.inter_feat
    columns = {"user_id": train["user_id"], "item_id": train["item_id"]}
    if negatives:
        columns["neg_item_id"] = torch.tensor(NEGATIVES)
    return Interaction(columns)


def ids(interaction):
    return [
        interaction[key].numpy()
        for key in ("user_id", "item_id", "neg_item_id")
        if key in interaction.interaction
    ]


def weights(model):
    """Return every trained weight by name."""
    return {name: w.detach().double().numpy().copy() for name, w in model.named_parameters()}


def features(bench):
    dataset = bench.split.dataset
    return {name: dataset.modality(name).double().numpy() for name in dataset.modality_names}


def contents(w, bench):
    """Return the features as they are now: trained ones, or else those of the dataset."""
    return {name: w.get(f"features.{name}_feature", x) for name, x in features(bench).items()}


def affine(w, name, rows):
    """Apply a linear layer by name; it may have no bias."""
    return rows @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)


def unit(rows):
    norm = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis=-1):
    exp = np.exp(x)
    return exp / exp.sum(axis=axis, keepdims=True)


def incidence(bench):
    """Return R, one where a user has a training item."""
    dataset, train = bench.split.dataset, bench.split.train.inter_feat
    out = np.zeros((dataset.user_num, dataset.item_num))
    out[train["user_id"], train["item_id"]] = 1
    return out


def bipartite(interactions):
    """Return D^-1/2 A D^-1/2 of the user-item graph."""
    n_users, n_items = interactions.shape
    adjacency = np.block(
        [
            [np.zeros((n_users, n_users)), interactions],
            [interactions.T, np.zeros((n_items, n_items))],
        ]
    )
    out = np.zeros_like(adjacency)
    for i, j in zip(*adjacency.nonzero(), strict=True):
        out[i, j] = 1 / np.sqrt(adjacency[i].sum() * adjacency[j].sum())
    return out


def tables(w):
    return np.concatenate([w["user_embedding.weight"], w["item_embedding.weight"]])


def mean_of_layers(adjacency, hidden, n_layers):
    layers = [hidden]
    for _ in range(n_layers):
        layers.append(adjacency @ layers[-1])
    return np.mean(layers, axis=0)


def neighbours(feature, k):
    """Return 0/1: each item's k nearest by cosine, itself the first; none for a zero row."""
    rows = unit(feature)
    cosine = rows @ rows.T
    out = np.zeros_like(cosine)
    usable = [item for item in range(1, len(rows)) if rows[item].any()]
    for item in usable:
        others = sorted(usable, key=lambda other: (other != item, -cosine[item, other]))
        out[item, others[:k]] = 1
    return out


def by_degrees(similarity):
    """Return D^-1/2 S D^-1/2 with the row sums of S."""
    degree = similarity.sum(axis=1)
    scale = np.divide(1, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    return scale[:, None] * similarity * scale


def cosines_of(edges, feature):
    """Return the cosines where there are edges, negative ones as zero."""
    rows = unit(feature)
    return edges * np.maximum(rows @ rows.T, 0)


def bpr(user_e, pos_e, neg_e):
    margin = (user_e * pos_e).sum(axis=1) - (user_e * neg_e).sum(axis=1)
    return np.log1p(np.exp(-margin)).mean()


def half_squares(*rows):
    return sum((r**2).sum() for r in rows) / 2 / len(rows[0])


def contrast(anchor, other, temperature):
    """Return the mean InfoNCE of each row of ``anchor`` with its row of ``other``."""
    anchor, other = unit(anchor), unit(other)
    terms = []
    for place, row in enumerate(anchor):
        similarity = np.exp(other @ row / temperature)
        terms.append(-np.log(similarity[place] / similarity.sum()))
    return np.mean(terms)


def fuse_by_preference(w, behaviour, contents):
    """Return what modalities share and what each has alone, averaged; and the attention, (N, M)."""
    fused, attention = np.zeros_like(behaviour), []
    for node in range(len(behaviour)):
        rows = [content[node] for content in contents.values()]
        score = [
            np.exp(w["attention.2.weight"][0] @ np.tanh(affine(w, "attention.0", row)))
            for row in rows
        ]
        attention.append(np.array(score) / sum(score))
        common = sum(share * row for share, row in zip(attention[-1], rows, strict=True))
        fused[node] = common
        for name, row in zip(contents, rows, strict=True):
            preference = sigmoid(affine(w, f"prefer.{name}.0", behaviour[node]))
            fused[node] += preference * (row - common)
    return fused / (len(contents) + 1), np.array(attention)


def hypergraph_view(w, bench, name, item_emb, n_layers, temperature):
    """One modality's learned hyperedges, with a softmax where training has Gumbel-softmax."""
    feature, interactions = features(bench)[name], incidence(bench)
    affinity = feature @ w[f"hyperedges.{name}.hyperedge"]
    of_items = softmax(affinity / temperature)
    of_items[0] = 0  # padding
    of_users = softmax(interactions @ affinity / temperature)
    item_h = item_emb
    for _ in range(n_layers):
        hyperedge_h = of_items.T @ item_h
        item_h, user_h = of_items @ hyperedge_h, of_users @ hyperedge_h
    return np.concatenate([user_h, item_h])


def modality_view(w, bench, name, n_layers):
    """A user starts as the mean of their items' projected features; the last layer is taken."""
    interactions = incidence(bench)
    item_h = affine(w, f"project.{name}", features(bench)[name])
    user_h = np.zeros((len(interactions), item_h.shape[1]))
    for user, row in enumerate(interactions):
        if row.any():
            user_h[user] = item_h[row > 0].mean(axis=0)
    power = np.linalg.matrix_power(bipartite(interactions), n_layers)
    return power @ np.concatenate([user_h, item_h])


def contrast_of_pairs(views, user, item, n_users, temperature):
    """Sum over pairs of modalities, and over the batch's users and items, of InfoNCE."""
    total = 0.0
    views = [unit(view) for view in views]
    for m, first in enumerate(views):
        for second in views[m + 1 :]:
            for nodes, others in (
                (user, range(1, n_users)),
                (item + n_users, range(n_users + 1, len(first))),
            ):
                for node in nodes:
                    every = sum(np.exp(first[node] @ second[o] / temperature) for o in others)
                    total -= np.log(np.exp(first[node] @ second[node] / temperature) / every)
    return total


def scores(model):
    """Return the scores of every item for every user, (U, I)."""
    users = Interaction({"user_id": torch.arange(model.n_users)})
    return model.full_sort_predict(users).view(model.n_users, model.n_items)


def assert_forward(bench, expected):
    """Compare users and items, one below the other, with what ``forward`` returns."""
    found = torch.cat(bench.model()).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=3e-6)


def assert_loss_and_gradients(bench, interaction, loss, step=1e-5):
    """Compare the loss, and along a random direction of each weight its gradient.

    ``loss(w)`` is in numpy; the gradient is its central difference.
    """
    model = bench.model
    model.zero_grad()
    found = model.calculate_loss(interaction)
    w = weights(model)
    assert found.dim() == 0
    assert found.item() == pytest.approx(loss(w), rel=1e-5)
    found.backward()
    rng = np.random.default_rng(0)
    for name, weight in model.named_parameters():
        grad = np.zeros(weight.shape) if weight.grad is None else weight.grad.double().numpy()
        direction = rng.normal(size=grad.shape)
        ahead, behind = (loss({**w, name: w[name] + s * direction}) for s in (step, -step))
        expected = (ahead - behind) / (2 * step)
        assert (grad * direction).sum() == pytest.approx(expected, rel=1e-3, abs=2e-6), name


def assert_needs_modalities(world, model):
    world.write(ROWS)
    with pytest.raises(ValueError, match=rf"{model} needs item features.*`modalities`"):
        world.bench(model, protocol="loo")
