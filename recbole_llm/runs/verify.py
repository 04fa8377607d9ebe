"""Recompute a run's metrics from its saved lists and the data, by other code than made them."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from recbole.data.dataset import Dataset, SequentialDataset

from recbole_llm.config import Config
from recbole_llm.data.describe import describe_data
from recbole_llm.data.loading import load_split
from recbole_llm.record import RunRecord
from recbole_llm.runs.rankings import UserRanking, rankings_path, read_rankings
from recbole_llm.runs.reload import settings_of

# Records keep metrics rounded to ``metric_decimal_place`` digits.
_ROUNDING = 0.5


class Verification(NamedTuple):
    """Outcome of a verification.

    Attributes:
        agrees: whether data, split and every metric are those of the record.
        text: one line for each comparison, then the outcome.
    """

    agrees: bool
    text: str


class Comparison(NamedTuple):
    """One thing that was compared, in words, and whether it is as the record has it."""

    text: str
    agrees: bool


def verify_run(run: str | Path, data_path: str | None = None) -> Verification:
    """Compare a record's metrics with those that follow from its saved lists and the data.

    Args:
        run: a run's folder, or its ``record.json``.
        data_path: parent of the dataset's folder, if it is not where the run found it.

    Raises:
        FileNotFoundError: the record, its lists or the data are missing.
        ValueError: the run kept no lists, or measured none of Recall, NDCG, Hit, MRR, Precision.
    """
    record = RunRecord.load(run)
    record_path = Path(run) / "record.json" if Path(run).is_dir() else Path(run)
    if not any(name.startswith("topk_") for name in record.files):
        raise ValueError(
            f"run {record.id} kept no lists to verify. Run it again with --save_topk=50."
        )
    split = load_split(_data_config(record, data_path))
    found = describe_data(split.dataset, split[1:])
    compared = []
    for name in ("files", "split"):
        same = found[name] == record.data[name]
        verdict = "unchanged" if same else "NOT those of the run"
        compared.append(Comparison(f"data {name}: {verdict}", same))
    for part, dataset in (("valid", split.valid), ("test", split.test)):
        if part in record.metrics:
            compared += _compare_part(record, part, dataset, rankings_path(record_path, part))
    agrees = all(comparison.agrees for comparison in compared)
    lines = [f"run {record.id}", *(comparison.text for comparison in compared)]
    return Verification(agrees, "\n".join([*lines, "verified" if agrees else "NOT verified"]))


def _data_config(record: RunRecord, data_path: str | None) -> Config:
    """Build the settings that decide the data and the split."""
    # The kind of model decides the kind of dataset; RecBole's sequential ones cut samples.
    sequential = record.config["MODEL_TYPE"] == "ModelType.SEQUENTIAL"
    model = "SASRec" if sequential else "LightGCN"
    defaults = Config(model, record.dataset)
    names = set(defaults.parameters["Dataset"]) | {"seed", "reproducibility", "modalities"}
    settings = settings_of(record, names, data_path)
    if "split" not in settings and record.protocol != "fixed":
        settings["eval_args"] = record.config["eval_args"]
    return Config(model, record.dataset, overrides=settings)


def _compare_part(
    record: RunRecord, part: str, dataset: Dataset, path: Path
) -> Iterable[Comparison]:
    """Recompute each recorded metric of a part from the lists in ``path``."""
    rankings = list(read_rankings(path))
    positives = _positives(path, rankings, dataset)
    tolerance = _ROUNDING * 10 ** -record.config["metric_decimal_place"] + 1e-9
    compared = []
    for name, recorded in record.metrics[part].items():
        metric, _, cut = name.partition("@")
        if metric not in _METRICS:
            continue
        k = int(cut)
        values = [
            _METRICS[metric](ranking.items[:k], held, k)
            for ranking, held in zip(rankings, positives, strict=True)
        ]
        value = float(np.mean(values))
        same = abs(value - recorded) <= tolerance
        verdict = "agrees" if same else "DIFFERS"
        text = f"{part} {name}: recorded {recorded:.6f}, here {value:.6f}  {verdict}"
        compared.append(Comparison(text, same))
    if not compared:
        raise ValueError(f"none of {', '.join(record.metrics[part])} can be recomputed from lists.")
    return compared


def _positives(path: Path, rankings: list[UserRanking], dataset: Dataset) -> list[set[str]]:
    """Return the items that the part holds for each list, in the order of the lists.

    Raises:
        ValueError: users of the part have no list, or several, or a list ranks an item twice.
    """
    for number, ranking in enumerate(rankings, start=1):
        if len(set(ranking.items)) != len(ranking.items):
            raise ValueError(f"{path}, line {number}, ranks an item twice (user {ranking.user!r}).")
    uid, iid = dataset.uid_field, dataset.iid_field
    users = [str(user) for user in dataset.id2token(uid, dataset.inter_feat[uid])]
    items = [str(item) for item in dataset.id2token(iid, dataset.inter_feat[iid])]
    listed = [ranking.user for ranking in rankings]
    if isinstance(dataset, SequentialDataset):  # a list for each interaction, in its order
        expected, positives = users, [{item} for item in items]
    else:
        items_of: dict[str, set[str]] = {}
        for user, item in zip(users, items, strict=True):
            items_of.setdefault(user, set()).add(item)
        positives = [items_of.get(user, set()) for user in listed]
        expected, listed = sorted(items_of), sorted(listed)
    if listed != expected:
        raise ValueError(
            f"{path} ranks {len(rankings)} users, and the data has {len(expected)} to evaluate; "
            f"each must be there once."
        )
    return positives


def _gains(items: list[str], positives: set[str]) -> np.ndarray:
    return np.array([item in positives for item in items], dtype=float)


def _ndcg(items: list[str], positives: set[str], k: int) -> float:
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = discount[: min(len(positives), k)].sum()
    return float((_gains(items, positives) * discount[: len(items)]).sum() / ideal)


def _mrr(items: list[str], positives: set[str], k: int) -> float:
    hits = np.flatnonzero(_gains(items, positives))
    return float(1 / (hits[0] + 1)) if len(hits) else 0.0


_METRICS = {
    "recall": lambda items, pos, k: _gains(items, pos).sum() / len(pos),
    "precision": lambda items, pos, k: _gains(items, pos).sum() / k,
    "hit": lambda items, pos, k: float(_gains(items, pos).any()),
    "mrr": _mrr,
    "ndcg": _ndcg,
}
