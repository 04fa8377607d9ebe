"""From a source to a dataset's folder, which appears whole or not at all."""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from recbole_llm.files import sha256_of
from recbole_llm.net.download import Fetched, fetch_all
from recbole_llm.prepare import files as output
from recbole_llm.prepare.interactions import (
    DUPLICATES,
    InteractionLog,
    Interactions,
    duplicate_mask,
    k_core_mask,
    time_order,
)
from recbole_llm.prepare.lines import LineCount
from recbole_llm.prepare.sources import Filters, Source
from recbole_llm.version import __version__

MANIFEST = "manifest.json"


class Prepared(NamedTuple):
    """The folder that was written, and its manifest."""

    folder: Path
    manifest: dict[str, Any]


def prepare(
    source: Source,
    data_path: Path,
    name: str | None = None,
    filters: Filters | None = None,
    raw_dir: Path | None = None,
    mirror: str | None = None,
    retries: int = 5,
    overwrite: bool = False,
    tell: Callable[[str], object] = print,
) -> Prepared:
    """Build ``<data_path>/<name>``: fetch, read, filter, write, and move it into place at the end.

    Memory: 25 bytes an interaction and some copies of that, and every identifier once.

    Args:
        source: what to build from.
        data_path: parent of the dataset's folder.
        name: of the dataset; the source's own if None.
        filters: the source's own if None.
        raw_dir: where raw files are or go; ``<data_path>/raw/<source>`` if None.
        mirror: address to fetch from in place of the official one.
        retries: attempts in a row that may bring nothing.
        overwrite: replace a folder that is there.
        tell: gets a line for each step.

    Raises:
        ValueError: a setting is out of range, a raw file is damaged, or nothing is left.
        OSError: raw files cannot be had, the folder is there already, or another process builds it.
    """
    name, filters = name or source.dataset, filters or source.filters
    _check(name, filters, source)
    target = data_path / name
    data_path.mkdir(parents=True, exist_ok=True)
    with _alone(data_path, name):
        if target.exists() and not overwrite:
            raise FileExistsError(
                f"{target} is there already. --overwrite replaces it with all that is in it; "
                f"--name= gives the new one another name."
            )
        raw_dir = raw_dir or data_path / "raw" / source.key
        raw = fetch_all(source.raw_files(raw_dir), raw_dir, mirror, retries, tell)
        raw |= source.local_files()
        part = data_path / f".{name}.partial"
        shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
        part.mkdir()
        try:
            manifest = _build(source, name, filters, raw, part, tell)
            _publish(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return Prepared(target, manifest)


def _check(name: str, filters: Filters, source: Source) -> None:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(
            f"the name {name!r} must be a folder's name of letters, digits, _, - and dots."
        )
    if filters.k_core < 0:
        raise ValueError(f"k_core must be an integer >= 0, got {filters.k_core}.")
    if filters.duplicates not in DUPLICATES:
        raise ValueError(f"duplicates must be {', '.join(DUPLICATES)}, got {filters.duplicates!r}.")
    if filters.min_rating is not None and "rating" not in source.inter_columns:
        raise ValueError(f"min_rating: {source.key} has no ratings here.")
    if (filters.since or filters.until) and "timestamp" not in source.inter_columns:
        raise ValueError(f"since, until: {source.key} has no timestamps here.")
    for date in filter(None, (filters.since, filters.until)):
        _seconds(date)


def _seconds(date: str) -> float:
    try:
        return datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise ValueError(f"a date must look like 2019-12-31, got {date!r}.") from error


@contextmanager
def _alone(data_path: Path, name: str) -> Iterator[None]:
    """Keep others from building the same dataset; mend what a killed run left."""
    try:
        with FileLock(data_path / f".{name}.lock", timeout=0):
            target, old = data_path / name, data_path / f".{name}.old"
            if old.exists() and not target.exists():
                old.rename(target)
            shutil.rmtree(old, ignore_errors=True)
            yield
    except Timeout as error:
        raise OSError(f"another process is preparing {data_path / name}.") from error


def _publish(part: Path, target: Path) -> None:
    """Move the finished folder into place; one that is there steps aside and is then removed."""
    old = target.with_name(f".{target.name}.old")
    if target.exists():
        target.rename(old)
    part.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _build(
    source: Source,
    name: str,
    filters: Filters,
    raw: Mapping[str, Fetched],
    part: Path,
    tell: Callable[[str], object],
) -> dict[str, Any]:
    tell("reading interactions")
    log = InteractionLog()
    lines = source.read_interactions(raw, log)
    data, users, items = log.finish()
    data, steps = _filter(data, filters, n_read=len(data.user))
    if not len(data.user):
        raise ValueError(f"no interaction is left: {_steps_text(steps)}.")
    tell("writing")
    data = data.take(time_order(data))
    output.write_interactions(part, name, source, data, users, items)
    codes = {items[code]: code for code in np.unique(data.item).tolist()}
    n_users, n_kept = len(np.unique(data.user)), len(data.user)
    del data, users, items
    order, n_described, item_lines = output.write_items(part, name, source, raw, codes)
    features = {}
    for modality, feature in source.features(raw).items():
        features[f"{modality}_feat.npy"] = output.write_feature(
            part / f"{modality}_feat.npy", feature, order
        )
    output.write_settings(part, source, {file.removesuffix("_feat.npy"): file for file in features})
    manifest = {
        "package": f"recbole-llm {__version__}",
        "dataset": name,
        "source": source.key,
        "options": source.options(),
        "filters": filters._asdict(),
        "raw_files": [file.note for file in raw.values()],
        "lines": {file: _lines_note(count) for file, count in {**lines, **item_lines}.items()},
        "steps": steps,
        "statistics": {
            "users": n_users,
            "items": len(order),
            "interactions": n_kept,
            "sparsity": 1 - n_kept / (n_users * len(order)),
            "items_described": n_described,
        },
        "features": features,
        "files": {path.name: sha256_of(path) for path in sorted(part.iterdir())},
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    (part / MANIFEST).write_text(text + "\n", encoding="utf-8", newline="\n")
    return manifest


def _filter(
    data: Interactions, filters: Filters, n_read: int
) -> tuple[Interactions, dict[str, int]]:
    """Apply the filters one after the other; return what is left, and what each took."""
    steps = {"read": n_read}

    def keep(what: str, mask: Any) -> None:
        nonlocal data
        steps[what] = int(len(mask) - np.count_nonzero(mask))
        if steps[what]:
            data = data.take(mask)

    if filters.min_rating is not None:
        keep("below_min_rating", data.rating >= filters.min_rating)
    if filters.since:
        keep("before_since", data.time >= _seconds(filters.since))
    if filters.until:
        keep("from_until_on", data.time < _seconds(filters.until))
    keep("duplicates", ~duplicate_mask(data, filters.duplicates))
    mask, n_rounds = k_core_mask(data.user, data.item, filters.k_core)
    keep("below_k_core", mask)
    return data, {**steps, "k_core_rounds": n_rounds, "kept": len(data.user)}


def _steps_text(steps: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in steps.items())


def _lines_note(count: LineCount) -> dict[str, Any]:
    note: dict[str, Any] = {"read": count.read, "malformed": count.malformed}
    if count.malformed:
        note |= {"first_malformed": count.first_malformed, "problem": count.problem}
    return note
