"""The ranked lists of a run's users: one file a part, one JSON line a user.

A run's folder has ``topk-test.jsonl``. Next to a published record ``<run>.json`` is
``<run>.topk-test.jsonl.gz``: cut to the longest list that a metric reads, without scores.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from recbole.data.dataset.dataset import Dataset

from recbole_llm.files import replacing
from recbole_llm.trainer.ranking import Ranking

#: Parts that are ranked.
PARTS = ("valid", "test")


class UserRanking(NamedTuple):
    """The best items of one user, or of one sample of a sequential model, best first.

    Attributes:
        user: token of the user.
        items: tokens of the items.
        hits: ranks, from 0, of the items that the part holds; None in files that lack them.
        n_positives: number of items that the part holds, ranked or not; None as ``hits``.
        scores: scores of the items; None in files that lack them.
    """

    user: str
    items: list[str]
    hits: list[int] | None
    n_positives: int | None
    scores: list[float] | None = None


def rankings_path(record_path: Path, part: str) -> Path:
    """Return the file of a part's lists, next to the record that they belong to.

    Args:
        record_path: ``record.json`` in a run's folder, or ``<run>.json`` next to a report.
        part: "valid" or "test".

    Returns:
        The path of the compressed file where that one alone exists, else of the plain one.
    """
    name = f"topk-{part}.jsonl"
    if record_path.name != "record.json":
        name = f"{record_path.stem}.{name}"
    path = record_path.with_name(name)
    compressed = path.with_name(f"{name}.gz")
    return compressed if compressed.is_file() and not path.is_file() else path


def write_rankings(path: Path, dataset: Dataset, ranking: Ranking) -> None:
    """Write the lists of a part, with scores; unranked places at a list's end are left out.

    A report tests differences between runs with ``hits`` and ``n_positives``, without the data.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for row in rankings_of(dataset, ranking):
            file.write(json.dumps(_line(row)) + "\n")


def rankings_of(dataset: Dataset, ranking: Ranking) -> Iterator[UserRanking]:
    """Return the lists of a part by tokens; unranked places at a list's end are left out."""
    users = dataset.id2token(dataset.uid_field, ranking.users)
    for user, items, scores, hits, n_positives in zip(users, *ranking[1:], strict=True):
        ranked = torch.isfinite(scores)  # fewer than K items may be left to rank
        yield UserRanking(
            str(user),
            dataset.id2token(dataset.iid_field, items[ranked]).tolist(),
            hits[ranked].nonzero().flatten().tolist(),
            int(n_positives),
            scores[ranked].tolist(),
        )


def publish_rankings(record_path: Path, target: Path, k: int) -> None:
    """Copy a record's lists next to its published copy: cut, without scores, compressed.

    The same lists give the same bytes. A part whose lists do not exist, or are there already, is
    left out.

    Args:
        record_path: record whose lists these are.
        target: the published record, ``<run>.json``.
        k: number of items that are kept of each list.

    Raises:
        ValueError: a line of a file is malformed; the text names it.
    """
    for part in PARTS:
        source, kept = rankings_path(record_path, part), rankings_path(target, part)
        if kept.is_file() or not source.is_file():
            continue
        kept = kept.with_name(f"{kept.name}.gz")
        with (
            replacing(kept) as file,
            gzip.GzipFile("", "wb", compresslevel=9, fileobj=file, mtime=0) as archive,
        ):
            for row in read_rankings(source):
                hits = None if row.hits is None else [rank for rank in row.hits if rank < k]
                cut = row._replace(items=row.items[:k], hits=hits, scores=None)
                text = json.dumps(_line(cut), separators=(",", ":"))
                archive.write(f"{text}\n".encode())


def read_rankings(path: Path) -> Iterator[UserRanking]:
    """Read the lists of a part, line by line.

    Args:
        path: file of JSON lines; one whose name ends in ``.gz`` is compressed.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: a line is malformed, or the archive is damaged; the text names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the run's lists were moved or deleted.")
    with path.open("rb") as raw:
        stream = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
        lines = enumerate(io.TextIOWrapper(stream, encoding="utf-8"), start=1)
        while True:
            try:
                number, line = next(lines, (0, ""))
            except (OSError, EOFError, zlib.error, ValueError) as error:
                raise ValueError(f"{path} is damaged: {error}.") from error
            if not number:
                return
            try:
                yield _parse(json.loads(line))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise ValueError(
                    f"{path}, line {number}, is not a user's list: {error!r}"
                ) from error


def _line(row: UserRanking) -> dict[str, Any]:
    """Return the JSON content of a line: what a list lacks is left out."""
    content = {
        "user": row.user,
        "items": row.items,
        "scores": row.scores,
        "hits": row.hits,
        "n_positives": row.n_positives,
    }
    return {name: value for name, value in content.items() if value is not None}


def _parse(content: Any) -> UserRanking:
    items, hits, n_positives, scores = (
        content.get(name) if isinstance(content, dict) else None
        for name in ("items", "hits", "n_positives", "scores")
    )
    if not isinstance(items, list) or not all(isinstance(item, str | int) for item in items):
        raise TypeError("items must be a list of tokens")
    if hits is not None and not (isinstance(hits, list) and all(type(x) is int for x in hits)):
        raise TypeError("hits must be a list of ranks")
    if n_positives is not None and type(n_positives) is not int:
        raise TypeError("n_positives must be a number")
    if scores is not None and not (
        isinstance(scores, list)
        and len(scores) == len(items)
        and all(type(score) in (int, float) for score in scores)
    ):
        raise TypeError("scores must be a list of numbers, one for each item")
    return UserRanking(str(content["user"]), list(map(str, items)), hits, n_positives, scores)
