"""Frozen lists, and what RecBole's evaluator makes of them."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from metric_lists import CUT, FOLDER, SETTINGS
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct
from scipy.sparse import coo_matrix

from recbole_llm.metrics.base import FEATURES, TRAINING, USERS
from recbole_llm.metrics.diversity import unit_rows
from recbole_llm.metrics.training import training_of


@pytest.fixture(scope="session")
def frozen() -> dict[str, Any]:
    """Return lists (12, 10), positives, training pairs and features of 30 items; ids from 1."""
    content: dict[str, Any] = json.loads((FOLDER / "frozen.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="session")
def struct(frozen: dict[str, Any]) -> DataStruct:
    """Return the frozen lists as a collector gathers them."""
    items = np.array(frozen["lists"])
    n_users, n_items = len(items), len(frozen["features"])
    pairs = zip(items, frozen["positives"], strict=True)
    hits = [[*np.isin(row, held), len(held)] for row, held in pairs]
    user, item = np.array(frozen["training"]).T
    shape = (n_users + 1, n_items + 1)
    features = np.vstack([np.zeros(4), frozen["features"]])
    gathered = DataStruct()
    gathered.set("rec.items", torch.from_numpy(items))
    gathered.set("rec.topk", torch.tensor(np.array(hits, dtype=int)))
    gathered.set(USERS, torch.arange(1, n_users + 1))
    gathered.set("data.num_items", n_items)
    gathered.set("data.count_items", Counter(item.tolist()))
    gathered.set(TRAINING, training_of(coo_matrix((np.ones(len(user)), (user, item)), shape)))
    gathered.set(FEATURES, unit_rows(torch.from_numpy(features).float()))
    return gathered


@pytest.fixture(scope="session")
def measured(struct: DataStruct) -> dict[str, float]:
    """Return every ranking metric of the frozen lists that has a cut-off."""
    return dict(Evaluator(SETTINGS | {"metrics": CUT}).evaluate(struct))
