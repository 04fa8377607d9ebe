"""Metrics of the interactions whose user or item has no training interaction."""

import numpy as np
import torch
from recbole.data.dataset.dataset import Dataset

from recbole_llm.data.loader import FullRankLoader, interaction_pairs
from recbole_llm.trainer.harness import HarnessMixin

Metrics = dict[str, float]


def cold_metrics(
    trainer: HarnessMixin, loader: FullRankLoader, train: Dataset, measured: Metrics
) -> dict[str, Metrics]:
    """Measure a model on the cold interactions of a part, apart from the others.

    Args:
        trainer: trainer whose model has the weights to measure.
        loader: loader of the part.
        train: training part, which decides who is cold.
        measured: metrics of the whole part, taken where all of it is cold.

    Returns:
        Metrics by group, each with ``n_interactions`` and ``n_users``; a group without
        interactions is left out. ``cold_users`` and ``cold_items``: every item is ranked.
        ``cold_items_only``: the items without training interactions, ranked among themselves.
    """
    part = loader._dataset
    user, item = (part.inter_feat[field].numpy() for field in (part.uid_field, part.iid_field))
    seen_user, seen_item = interaction_pairs(train)
    is_cold_item = np.ones(part.item_num, dtype=bool)
    is_cold_item[0] = is_cold_item[seen_item] = False
    of_cold_users, of_cold_items = ~np.isin(user, seen_user), is_cold_item[item]
    groups: dict[str, Metrics] = {}
    for name, is_cold, candidates in (
        ("cold_users", of_cold_users, None),
        ("cold_items", of_cold_items, None),
        ("cold_items_only", of_cold_items, torch.from_numpy(is_cold_item)),
    ):
        rows = np.flatnonzero(is_cold)
        if not len(rows):
            continue
        metrics = measured
        if len(rows) < len(user) or candidates is not None:
            metrics = trainer.evaluate(loader.restricted(rows, candidates), False) or {}
        counts = {"n_interactions": len(rows), "n_users": len(np.unique(user[rows]))}
        groups[name] = {**counts, **metrics}
    return groups
