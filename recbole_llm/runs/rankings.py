"""The ranked lists of a run's users: one file a part, one JSON line a user."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from recbole.data.dataset.dataset import Dataset

from recbole_llm.trainer.ranking import Ranking


class UserRanking(NamedTuple):
    """The best items of one user, or of one sample of a sequential model, best first.

    Attributes:
        user: token of the user.
        items: tokens of the items.
        hits: ranks, from 0, of the items that the part holds; None in files that lack them.
        n_positives: number of items that the part holds, ranked or not; None as ``hits``.
    """

    user: str
    items: list[str]
    hits: list[int] | None
    n_positives: int | None


def rankings_path(record_path: Path, part: str) -> Path:
    """Return the file of a part's lists, next to the record that they belong to.

    Args:
        record_path: ``record.json`` in a run's folder, or ``<run>.json`` next to a report.
        part: "valid" or "test".
    """
    if record_path.name == "record.json":
        return record_path.with_name(f"topk-{part}.jsonl")
    return record_path.with_suffix(f".topk-{part}.jsonl")


def write_rankings(path: Path, dataset: Dataset, ranking: Ranking) -> None:
    """Write the lists of a part, with scores; unranked places at a list's end are left out.

    A report tests differences between runs with ``hits`` and ``n_positives``, without the data.
    """
    users = dataset.id2token(dataset.uid_field, ranking.users)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for user, items, scores, hits, n_positives in zip(users, *ranking[1:], strict=True):
            ranked = torch.isfinite(scores)  # fewer than K items may be left to rank
            tokens = dataset.id2token(dataset.iid_field, items[ranked]).tolist()
            line = {
                "user": str(user),
                "items": tokens,
                "scores": scores[ranked].tolist(),
                "hits": hits[ranked].nonzero().flatten().tolist(),
                "n_positives": int(n_positives),
            }
            file.write(json.dumps(line) + "\n")


def read_rankings(path: Path) -> Iterator[UserRanking]:
    """Read the lists of a part, line by line.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: a line is malformed; the text names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the run's lists were moved or deleted.")
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                user, items = str(row["user"]), [str(item) for item in row["items"]]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}, is not a user's list: {error!r}"
                ) from error
            yield UserRanking(user, items, row.get("hits"), row.get("n_positives"))
