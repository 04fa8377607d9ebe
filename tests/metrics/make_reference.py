"""Write ``frozen.json`` and what other libraries make of it, ``reference.json``; no test runs this.

    pip install ranx==0.3.21 rectools==0.19.0
    python tests/metrics/make_reference.py

Items and users are RecBole's internal ids: 0 is padding. Cut lists: R-precision and rank-biased
precision have no cut-off in ranx, so it gets the first k items of each list.
"""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ranx import Qrels, Run, evaluate
from rectools import Columns
from rectools.metrics import AvgRecPopularity, CatalogCoverage, MeanInvUserFreq

FOLDER = Path(__file__).parent
CUTS = [3, 5, 10]
N_USERS, N_ITEMS = 12, 30
LIBRARIES = ("ranx", "RecTools", "numpy")


def frozen_lists() -> dict[str, Any]:
    """Draw lists, positives and training pairs: popular items more often, items 28 to 30 never."""
    random = np.random.default_rng(7)
    weight = 1 / np.arange(1, N_ITEMS + 1)
    trained = weight[: N_ITEMS - 3] / weight[: N_ITEMS - 3].sum()
    lists, positives, training = [], [], []
    for user in range(1, N_USERS + 1):
        items = random.choice(N_ITEMS, size=10, replace=False, p=weight / weight.sum()) + 1
        held = random.choice(N_ITEMS, size=int(random.integers(1, 9)), replace=False) + 1
        lists.append(items.tolist())
        positives.append(sorted(held.tolist()))
        if user < N_USERS:  # the last user is cold
            size = int(random.integers(2, 12))
            seen = random.choice(N_ITEMS - 3, size=size, replace=False, p=trained) + 1
            training += [[user, item] for item in sorted(seen.tolist())]
    features = random.normal(size=(N_ITEMS, 4)).round(3)
    features[4] = 0  # item 5 has no features
    return {
        "lists": lists,
        "positives": positives,
        "training": training,
        "features": features.tolist(),
    }


def ranx_values(frozen: dict[str, Any]) -> dict[str, float]:
    """Return what ranx makes of the lists, by our names."""
    users = [f"u{n}" for n in range(1, N_USERS + 1)]
    qrels = Qrels(
        {
            user: {f"i{item}": 1 for item in held}
            for user, held in zip(users, frozen["positives"], strict=True)
        }
    )

    def run(length: int) -> Run:
        return Run(
            {
                user: {f"i{item}": float(100 - rank) for rank, item in enumerate(items[:length])}
                for user, items in zip(users, frozen["lists"], strict=True)
            }
        )

    names = {
        "recall": "recall",
        "precision": "precision",
        "hit": "hit_rate",
        "mrr": "mrr",
        "ndcg": "ndcg",
        "f1": "f1",
    }
    values = {
        f"{ours}@{k}": float(evaluate(qrels, run(10), f"{theirs}@{k}"))
        for ours, theirs in names.items()
        for k in CUTS
    }
    for k in CUTS:
        values[f"rprecision@{k}"] = float(evaluate(qrels, run(k), "r-precision"))
        values[f"rbp@{k}"] = float(evaluate(qrels, run(k), "rbp.80"))
    # ranx divides by all positives, RecBole by min(positives, k): equal where k holds them all.
    assert max(map(len, frozen["positives"])) <= 10
    values["map@10"] = float(evaluate(qrels, run(10), "map@10"))
    return values


def rectools_values(frozen: dict[str, Any]) -> dict[str, float]:
    """Return what RecTools makes of the lists, by our names."""
    reco = pd.DataFrame(
        [
            (user, item, rank)
            for user, items in enumerate(frozen["lists"], start=1)
            for rank, item in enumerate(items, start=1)
        ],
        columns=[Columns.User, Columns.Item, Columns.Rank],
    )
    train = pd.DataFrame(frozen["training"], columns=[Columns.User, Columns.Item])
    catalog = list(range(1, N_ITEMS + 1))
    values = {}
    for k in CUTS:
        values[f"novelty@{k}"] = float(MeanInvUserFreq(k).calc(reco, train))
        values[f"averagepopularity@{k}"] = float(AvgRecPopularity(k).calc(reco, train))
        values[f"itemcoverage@{k}"] = float(CatalogCoverage(k, normalize=True).calc(reco, catalog))
    return values


def main() -> None:
    """Write both files."""
    frozen = frozen_lists()
    reference = {
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "ranx": ranx_values(frozen),
        "rectools": rectools_values(frozen),
    }
    for name, content in (("frozen", frozen), ("reference", reference)):
        text = json.dumps(content, indent=1)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
