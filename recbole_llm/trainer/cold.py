"""Metrics of the interactions whose user or item has no training interaction, and of the others."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.dataset.dataset import Dataset

from recbole_llm.data.loader import FullRankLoader, interaction_pairs
from recbole_llm.trainer.harness import HarnessMixin
from recbole_llm.trainer.ranking import Ranking

Metrics = dict[str, float]


class _Cold(NamedTuple):
    """Which users and items have no training interaction, by id, and which rows are theirs.

    Attributes:
        is_user, is_item: (U,) and (I,) bool; False for padding.
        of_users, of_items: (n,) bool, rows of the part.
    """

    is_user: NDArray[np.bool_]
    is_item: NDArray[np.bool_]
    of_users: NDArray[np.bool_]
    of_items: NDArray[np.bool_]


def cold_metrics(
    trainer: HarnessMixin, loader: FullRankLoader, train: Dataset, measured: Metrics
) -> dict[str, Metrics]:
    """Measure a model on the cold interactions of a part, apart from the others.

    Args:
        trainer: trainer whose model has the weights to measure, and has ranked the part.
        loader: loader of the part.
        train: training part, which decides who is cold.
        measured: metrics of the whole part, taken where all of it is cold.

    Returns:
        Metrics by group, each with ``n_interactions`` and ``n_users``; a group without
        interactions is left out. ``cold_users`` and ``cold_items``: every item is ranked.
        ``cold_items_only``: the items without training interactions, ranked among themselves.
        ``warm_users`` and ``warm_items``: the rest of a part with cold ones, in the lists of the
        whole part.
    """
    part, ranking = loader._dataset, trainer.ranking
    user, item = (part.inter_feat[field].numpy() for field in (part.uid_field, part.iid_field))
    cold = _cold(part, train, user, item)
    groups: dict[str, Metrics] = {}
    for name, is_cold, candidates in (
        ("cold_users", cold.of_users, None),
        ("cold_items", cold.of_items, None),
        ("cold_items_only", cold.of_items, torch.from_numpy(cold.is_item)),
    ):
        rows = np.flatnonzero(is_cold)
        if not len(rows):
            continue
        metrics = measured
        if len(rows) < len(user) or candidates is not None:
            metrics = trainer.evaluate(loader.restricted(rows, candidates), False) or {}
        groups[name] = _with_counts(user[rows], metrics)
    for name, is_cold in (("warm_users", cold.of_users), ("warm_items", cold.of_items)):
        if ranking is None or not is_cold.any() or is_cold.all():
            continue
        warm = _warm_ranking(ranking, loader, cold, name == "warm_users")
        groups[name] = _with_counts(user[~is_cold], trainer.measure(warm))
    return groups


def _cold(part: Dataset, train: Dataset, user: NDArray[np.int64], item: NDArray[np.int64]) -> _Cold:
    seen_user, seen_item = interaction_pairs(train)
    is_user, is_item = np.ones(part.user_num, dtype=bool), np.ones(part.item_num, dtype=bool)
    is_user[0] = is_user[seen_user] = False
    is_item[0] = is_item[seen_item] = False
    return _Cold(is_user, is_item, is_user[user], is_item[item])


def _with_counts(user: NDArray[np.int64], metrics: Metrics) -> Metrics:
    return {"n_interactions": len(user), "n_users": len(np.unique(user)), **metrics}


def _warm_ranking(ranking: Ranking, loader: FullRankLoader, cold: _Cold, by_user: bool) -> Ranking:
    """Return the lists of warm users, or all lists with a warm positive, the cold ones left out."""
    if by_user:
        kept = torch.from_numpy(~cold.is_user)[ranking.users]
        return Ranking(*(part[kept] for part in ranking))
    is_warm = torch.from_numpy(~cold.is_item)
    row, item = loader.positives.take(np.arange(len(ranking.users)))
    counts = np.bincount(row[~cold.is_item[item]], minlength=len(ranking.users))
    n_positives = torch.from_numpy(counts)
    warm = ranking._replace(hits=ranking.hits & is_warm[ranking.items], n_positives=n_positives)
    return Ranking(*(part[n_positives > 0] for part in warm))
