"""Recompute a run's metrics from its saved lists and the data, by other code than made them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from recbole.data.dataset import Dataset, SequentialDataset

from recbole_llm.config import Config
from recbole_llm.data.loading import load_split
from recbole_llm.record import RunRecord, describe_data
from recbole_llm.runs.reload import settings_of

# Records keep metrics rounded to ``metric_decimal_place`` digits.
_ROUNDING = 0.5


class Report(NamedTuple):
    """Outcome of a verification."""

    agrees: bool
    text: str


def verify_run(run: str | Path, data_path: str | None = None) -> Report:
    """Compare a record's metrics with those of its saved top-k lists on the data at hand.

    Args:
        run: a run's folder, or its ``record.json``.
        data_path: parent of the data set's folder, if it is not where the run found it.

    Raises:
        FileNotFoundError: the record, its lists or the data are missing.
        ValueError: the run kept no lists, or measured none of Recall, NDCG, Hit, MRR, Precision.
    """
    record = RunRecord.load(run)
    folder = Path(run) if Path(run).is_dir() else Path(run).parent
    if not any(name.startswith("topk_") for name in record.files):
        raise ValueError(
            f"run {record.id} kept no lists to verify. Run it again with --save_topk=50."
        )
    split = load_split(_config_of(record, data_path))
    now = describe_data(split.dataset, split[1:])
    lines, agrees = [f"run {record.id}"], True
    for name in ("files", "split"):
        same = now[name] == record.data[name]
        agrees &= same
        lines.append(f"data {name}: {'unchanged' if same else 'NOT those of the run'}")
    for part, dataset in (("valid", split.valid), ("test", split.test)):
        lists = folder / f"topk-{part}.jsonl"
        if part not in record.metrics:
            continue
        for metric, (value, recorded) in _compare(lists, dataset, record.metrics[part]).items():
            tolerance = _ROUNDING * 10 ** -record.config["metric_decimal_place"] + 1e-9
            same = abs(value - recorded) <= tolerance
            agrees &= same
            verdict = "agrees" if same else "DIFFERS"
            lines.append(f"{part} {metric}: recorded {recorded:.6f}, here {value:.6f}  {verdict}")
    lines.append("verified" if agrees else "NOT verified")
    return Report(agrees, "\n".join(lines))


def _config_of(record: RunRecord, data_path: str | None) -> Config:
    """Build the settings that decide the data and the split."""
    probe = Config(_probe_model(record), record.dataset)
    names = set(probe.parameters["Dataset"]) | {"seed", "reproducibility", "modalities"}
    settings = settings_of(record, names, data_path)
    if "split" not in settings and record.protocol != "fixed":
        settings["eval_args"] = record.config["eval_args"]
    return Config(_probe_model(record), record.dataset, overrides=settings)


def _probe_model(record: RunRecord) -> str:
    # The kind of model decides the kind of data set; RecBole's sequential ones cut samples.
    sequential = record.config["MODEL_TYPE"] == "ModelType.SEQUENTIAL"
    return "SASRec" if sequential else "LightGCN"


def _compare(
    lists: Path, dataset: Dataset, recorded: dict[str, float]
) -> dict[str, tuple[float, float]]:
    if not lists.is_file():
        raise FileNotFoundError(f"{lists} is missing: the run's lists were moved or deleted.")
    uid, iid = dataset.uid_field, dataset.iid_field
    users = [str(user) for user in dataset.id2token(uid, dataset.inter_feat[uid])]
    items = [str(item) for item in dataset.id2token(iid, dataset.inter_feat[iid])]
    ranked = _read_lists(lists)
    listed = [row["user"] for row in ranked]
    if isinstance(dataset, SequentialDataset):  # a list for each interaction, in its order
        wanted, positives = users, [{item} for item in items]
    else:
        of_user: dict[str, set[str]] = {}
        for user, item in zip(users, items, strict=True):
            of_user.setdefault(user, set()).add(item)
        wanted, listed = sorted(of_user), sorted(listed)
        positives = [of_user.get(row["user"], set()) for row in ranked]
    if listed != wanted:
        raise ValueError(
            f"{lists} ranks {len(ranked)} users, and the data has {len(wanted)} to evaluate; "
            f"each must be there once."
        )
    found = {}
    for name, value in recorded.items():
        metric, _, k = name.partition("@")
        if metric in _METRICS:
            scores = [
                _METRICS[metric](row["items"][: int(k)], mine, int(k))
                for row, mine in zip(ranked, positives, strict=True)
            ]
            found[name] = (float(np.mean(scores)), value)
    if not found:
        raise ValueError(f"none of {', '.join(recorded)} can be recomputed from lists.")
    return found


def _read_lists(path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            user, items = str(row["user"]), [str(item) for item in row["items"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}, is not a user's list: {error!r}") from error
        if len(set(items)) != len(items):
            raise ValueError(f"{path}, line {number}, ranks an item twice (user {user!r}).")
        rows.append({"user": user, "items": items})
    return rows


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
