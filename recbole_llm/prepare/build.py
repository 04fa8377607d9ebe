"""From a source to a dataset's folder, which appears whole or not at all."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from recbole_llm.data.manifest import MANIFEST
from recbole_llm.files import check_name, recover_folder, replacing_folder, sha256_of
from recbole_llm.prepare.filters import Filters
from recbole_llm.prepare.interactions import InteractionLog, Interactions, time_order
from recbole_llm.prepare.lines import LineCount
from recbole_llm.prepare.output import (
    empty_cells,
    write_feature,
    write_interactions,
    write_items,
    write_settings,
)
from recbole_llm.prepare.raw_files import Fetched, fetch_all
from recbole_llm.prepare.sources.base import Source
from recbole_llm.version import __version__

#: Largest share of malformed lines of a file that is left out without asking.
MALFORMED_SHARE = 0.02


class Prepared(NamedTuple):
    """The folder that was written, and its manifest."""

    folder: Path
    manifest: dict[str, Any]


class _Kept(NamedTuple):
    """Interactions that the filters left, and how they came to be.

    Attributes:
        data: interactions by user, then time.
        users: user token by code.
        items: item token by code.
        lines: lines read, by file name.
        steps: number of interactions at each step.
    """

    data: Interactions
    users: list[str]
    items: list[str]
    lines: dict[str, LineCount]
    steps: dict[str, int]


def prepare_dataset(
    source: Source,
    data_path: Path,
    name: str | None = None,
    filters: Filters | None = None,
    raw_dir: Path | None = None,
    mirror: str | None = None,
    retries: int = 5,
    overwrite: bool = False,
    allow_malformed: bool = False,
    report: Callable[[str], object] = print,
) -> Prepared:
    """Build ``<data_path>/<name>``: fetch, read, filter, write, and move it into place at the end.

    Memory: 25 bytes an interaction and some copies of that, and every identifier once.

    Args:
        source: source of the data, one of ``prepare.sources.SOURCES``.
        data_path: parent of the dataset's folder.
        name: name of the dataset; None: the source's default.
        filters: rules for what is left out; None: the source's defaults.
        raw_dir: folder of raw files; None: ``<data_path>/raw/<source>``.
        mirror: address to fetch from in place of the official one.
        retries: attempts in a row that may bring nothing.
        overwrite: whether a folder that exists is replaced.
        allow_malformed: whether more than 2 % of a file's lines may be malformed and left out.
        report: function that gets a line for each step.

    Returns:
        The folder and its manifest.

    Raises:
        ValueError: a setting is out of range, a raw file is damaged, too many of its lines are
            malformed, or nothing is left.
        OSError: raw files are missing, the folder exists already, or another process builds it.
    """
    name = check_name("dataset", name or source.dataset)
    filters = filters or source.filters
    filters.check(source.key, source.inter_columns)
    folder = data_path / name
    data_path.mkdir(parents=True, exist_ok=True)
    with _only_writer(folder):
        if folder.exists() and not overwrite:
            raise FileExistsError(
                f"{folder} is there already. --overwrite replaces it with all that is in it; "
                f"--name= gives the new one another name."
            )
        raw_dir = raw_dir or data_path / "raw" / source.key
        raw = fetch_all(source.raw_files(raw_dir), raw_dir, mirror, retries, report)
        raw |= source.local_files()
        with replacing_folder(folder) as partial:
            report("reading interactions")
            kept = _read(source, filters, raw, allow_malformed)
            for note in source.notes:
                report(note)
            report("writing")
            manifest = {
                "package": f"recbole-llm {__version__}",
                "dataset": name,
                "source": source.key,
                "options": source.chosen(),
                "filters": filters._asdict(),
                "raw_files": [file.note for file in raw.values()],
                "notes": source.notes,
                **_write(partial, name, source, raw, kept, allow_malformed),
            }
            text = json.dumps(manifest, indent=1, ensure_ascii=False)
            (partial / MANIFEST).write_text(text + "\n", encoding="utf-8", newline="\n")
    return Prepared(folder, manifest)


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Keep other processes from building the same dataset; restore what a killed one left."""
    try:
        with FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0):
            recover_folder(folder)
            yield
    except Timeout as error:
        raise OSError(f"another process is preparing {folder}.") from error


def _read(
    source: Source, filters: Filters, raw: Mapping[str, Fetched], allow_malformed: bool
) -> _Kept:
    log = InteractionLog()
    lines = source.read_interactions(raw, log)
    if not allow_malformed:
        _check_share(lines)
    data, users, items = log.finish()
    data, steps = filters.apply(data)
    if not len(data.user):
        counts = ", ".join(f"{step.replace('_', ' ')} {n:,}" for step, n in steps.items())
        raise ValueError(f"no interaction is left: {counts}.")
    return _Kept(data.take(time_order(data)), users, items, lines, steps)


def _write(
    folder: Path,
    name: str,
    source: Source,
    raw: Mapping[str, Fetched],
    kept: _Kept,
    allow_malformed: bool,
) -> dict[str, Any]:
    """Write the files of the dataset; return what the manifest says of them."""
    write_interactions(folder, name, source, kept.data, kept.users, kept.items)
    codes = {kept.items[code]: code for code in np.unique(kept.data.item).tolist()}
    order, described, item_lines = write_items(folder, name, source, raw, codes)
    if not allow_malformed:
        _check_share(item_lines)
    features = {
        f"{modality}_feat.npy": write_feature(folder / f"{modality}_feat.npy", feature, order)
        for modality, feature in source.features(raw).items()
    }
    empty = empty_cells(source, kept.data)
    modalities = {file.removesuffix("_feat.npy"): file for file in features}
    write_settings(folder, source, modalities, [c for c in source.inter_columns if c not in empty])
    n_users, n_kept = len(np.unique(kept.data.user)), len(kept.data.user)
    lines = {**kept.lines, **item_lines}
    return {
        "lines": {file: _lines_note(count) for file, count in lines.items()},
        "steps": kept.steps,
        "empty": empty,
        "statistics": {
            "users": n_users,
            "items": len(order),
            "interactions": n_kept,
            "sparsity": 1 - n_kept / (n_users * len(order)),
            **described,
        },
        "features": features,
        "files": {path.name: sha256_of(path) for path in sorted(folder.iterdir())},
    }


def _check_share(lines: Mapping[str, LineCount]) -> None:
    """Check that few lines of each file were malformed.

    Args:
        lines: counts by file name.

    Raises:
        ValueError: more than ``MALFORMED_SHARE`` of a file's lines were skipped.
    """
    for name, count in lines.items():
        if count.malformed > MALFORMED_SHARE * count.read:
            raise ValueError(
                f"{name}: {count.malformed:,} of {count.read:,} lines are malformed, more than "
                f"{MALFORMED_SHARE:.0%} (first: line {count.first_malformed[0]}: {count.problem}). "
                f"Correct them, or leave them out with --allow_malformed."
            )


def _lines_note(count: LineCount) -> dict[str, Any]:
    note: dict[str, Any] = {"read": count.read, "malformed": count.malformed}
    if count.malformed:
        note |= {"first_malformed": count.first_malformed, "problem": count.problem}
    return note
