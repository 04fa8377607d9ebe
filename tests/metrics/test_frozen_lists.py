"""Every metric equals another library, or plain numpy, to 1e-6 on frozen lists."""

import json
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from metric_lists import CUT, CUTS, FOLDER, SETTINGS
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct
from scipy.stats import entropy
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.metrics.pairwise import cosine_distances

from recbole_llm.metrics.collector import MetricCollector
from recbole_llm.metrics.register import metric_types
from recbole_llm.runs.catalogue import Catalogue
from recbole_llm.runs.list_metrics import Lists
from recbole_llm.runs.metrics import recompute

Frozen = dict[str, Any]
REFERENCE = json.loads((FOLDER / "reference.json").read_text(encoding="utf-8"))
LIBRARIES: dict[str, float] = REFERENCE["ranx"] | REFERENCE["rectools"]


# -- plain numpy, for what neither library has -------------------------------------------------


def item_users(frozen: Frozen) -> np.ndarray:
    return np.array([sum(i == item for _, i in frozen["training"]) for item in range(31)], float)


def profile(frozen: Frozen, user: int) -> list[int]:
    return [item for u, item in frozen["training"] if u == user]


def recalls(frozen: Frozen, k: int) -> tuple[float, float]:
    """Return the recall of the 3 = .25 * 12 users of the longest profiles, and of the others."""
    sizes = [len(profile(frozen, user)) for user in range(1, 13)]
    active = sorted(range(12), key=lambda n: (-sizes[n], n))[:3]
    pairs = list(zip(frozen["lists"], frozen["positives"], strict=True))
    recall = [len({*items[:k]} & {*held}) / len(held) for items, held in pairs]
    others = [recall[n] for n in range(12) if n not in active]
    return float(np.mean([recall[n] for n in active])), float(np.mean(others))


def average_precision(frozen: Frozen, k: int) -> float:
    """RecBole divides by min(positives, k)."""
    values = []
    for items, held in zip(frozen["lists"], frozen["positives"], strict=True):
        ranks = [rank for rank, item in enumerate(items[:k], start=1) if item in held]
        precisions = [(n + 1) / rank for n, rank in enumerate(ranks)]
        values.append(sum(precisions) / min(len(held), k))
    return float(np.mean(values))


def counts(frozen: Frozen, k: int) -> np.ndarray:
    shown = Counter(item for items in frozen["lists"] for item in items[:k])
    return np.array([shown[item] for item in range(1, 31)], float)


def gini(frozen: Frozen, k: int) -> float:
    """Half the relative mean absolute difference."""
    count = counts(frozen, k)
    return float(np.abs(count[:, None] - count).mean() / (2 * count.mean()))


def tail(frozen: Frozen, k: int) -> float:
    """The rarest fifth of the items that training has; ties by id."""
    users = item_users(frozen)
    seen = sorted((item for item in range(31) if users[item]), key=lambda item: users[item])
    rarest = set(seen[: int(len(seen) * 0.2)])
    return float(np.mean([item in rarest for items in frozen["lists"] for item in items[:k]]))


def popularity_lift(frozen: Frozen, k: int) -> float:
    users, shown, owned = item_users(frozen), [], []
    for user, items in enumerate(frozen["lists"], start=1):
        if profile(frozen, user):  # the last user has none
            shown.append(users[items[:k]].mean())
            owned.append(users[profile(frozen, user)].mean())
    assert len(shown) == 11
    return float((np.mean(shown) - np.mean(owned)) / np.mean(owned))


def cold_share(frozen: Frozen, k: int) -> float:
    cold = {28, 29, 30} | {item for item in range(1, 28) if not item_users(frozen)[item]}
    return float(np.mean([item in cold for items in frozen["lists"] for item in items[:k]]))


def personalization(frozen: Frozen, k: int) -> float:
    pairs = combinations([set(items[:k]) for items in frozen["lists"]], 2)
    return float(np.mean([1 - len(a & b) / k for a, b in pairs]))


def diversity(frozen: Frozen, k: int) -> float:
    """Item 5 has no features; scikit-learn's distance of it to all others is 1."""
    features = np.array(frozen["features"])
    upper = np.triu_indices(k, 1)
    lists = [cosine_distances(features[np.array(items[:k]) - 1]) for items in frozen["lists"]]
    return float(np.mean([distance[upper].mean() for distance in lists]))


PLAIN: dict[str, Callable[[Frozen, int], float]] = {
    "map": average_precision,
    "giniindex": gini,
    "shannonentropy": lambda frozen, k: float(entropy(counts(frozen, k))),
    "tailpercentage": tail,
    "popularitylift": popularity_lift,
    "colditemshare": cold_share,
    "personalization": personalization,
    "intralistdiversity": diversity,
    "activeuserrecall": lambda frozen, k: recalls(frozen, k)[0],
    "inactiveuserrecall": lambda frozen, k: recalls(frozen, k)[1],
    "usergroupgap": lambda frozen, k: abs(recalls(frozen, k)[0] - recalls(frozen, k)[1]),
}


# -- the tests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LIBRARIES)
def test_metrics_equal_ranx_and_rectools(name: str, measured: dict[str, float]) -> None:
    assert measured[name] == pytest.approx(LIBRARIES[name], rel=0, abs=1e-6)


@pytest.mark.parametrize("k", CUTS)
@pytest.mark.parametrize("metric", PLAIN)
def test_metrics_equal_numpy(
    metric: str, k: int, frozen: Frozen, measured: dict[str, float]
) -> None:
    expected = PLAIN[metric](frozen, k)
    assert expected != 0
    assert measured[f"{metric}@{k}"] == pytest.approx(expected, rel=0, abs=1e-6)


def test_every_metric_is_compared() -> None:
    compared = {name.partition("@")[0] for name in LIBRARIES} | PLAIN.keys()
    assert compared == set(CUT) and len(metric_types) == len(CUT) + 5 >= 20


@pytest.mark.parametrize("k", CUTS)
@pytest.mark.parametrize("metric", sorted(set(CUT) - {"intralistdiversity"}))
def test_verify_recomputes_them_from_tokens(metric: str, k: int, frozen: Frozen) -> None:
    """By code of its own; a list's features are not in it, so its diversity is not recomputed."""
    training = [(f"u{user}", f"i{item}") for user, item in frozen["training"]]
    profiles = {f"u{user}": {i for u, i in training if u == f"u{user}"} for user in range(1, 13)}
    items = sorted((item for _, item in training), key=lambda token: int(token[1:]))
    catalogue = Catalogue(30, Counter(items), profiles, Counter(items), SETTINGS)
    tokens = [[f"i{item}" for item in row] for row in frozen["lists"]]
    held = [{f"i{item}" for item in row} for row in frozen["positives"]]
    found = recompute(f"{metric}@{k}", Lists(tokens, list(profiles), held), catalogue)
    expected = LIBRARIES.get(f"{metric}@{k}")
    expected = PLAIN[metric](frozen, k) if expected is None else expected
    assert found == pytest.approx(expected, rel=0, abs=1e-6)


def test_gauc_equals_scikit_learn() -> None:
    """The users' AUC, weighted by their positives; items of one score share their ranks."""
    random = np.random.default_rng(3)
    scores = random.integers(0, 9, size=(6, 20)).astype(float)
    labels = random.random((6, 20)) < 0.3
    labels[:, 1] = True
    labels[:, 0] = False
    config = {"metrics": ["GAUC"], "eval_args": {"mode": "full"}, "topk": [1], "device": "cpu"}
    collector = MetricCollector(config)
    ranked = torch.from_numpy(np.where(np.arange(20) == 0, -np.inf, scores))  # item 0 is padding
    row, item = torch.from_numpy(labels).nonzero(as_tuple=True)
    collector.eval_batch_collect(ranked, {}, row, item)
    found = Evaluator(SETTINGS | config).evaluate(collector.get_data_struct())["gauc"]
    aucs = [roc_auc_score(labels[n, 1:], scores[n, 1:]) for n in range(6)]
    assert found == pytest.approx(np.average(aucs, weights=labels.sum(axis=1)), rel=0, abs=1e-6)


def test_metrics_of_labels_equal_scikit_learn_and_numpy() -> None:
    random = np.random.default_rng(4)
    score, label = random.random(50), (random.random(50) < 0.4).astype(float)
    gathered = DataStruct()
    gathered.set("rec.score", torch.from_numpy(score))
    gathered.set("data.label", torch.from_numpy(label))
    metrics = ["AUC", "LogLoss", "MAE", "RMSE"]
    found = Evaluator(SETTINGS | {"metrics": metrics}).evaluate(gathered)
    expected = {
        "auc": roc_auc_score(label, score),
        "logloss": log_loss(label, score),
        "mae": np.abs(score - label).mean(),
        "rmse": ((score - label) ** 2).mean() ** 0.5,
    }
    assert found == pytest.approx(expected, rel=0, abs=1e-6)
