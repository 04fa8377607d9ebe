"""Frozen splits: a named folder that says which rows of a data set's ``.inter`` file are held out.

``<data_path>/<dataset>/splits/<name>/`` holds

- ``train.inter``, ``valid.inter``, ``test.inter``: lines of the source, in the source's order;
- ``rows.npy``: int32, the source's row numbers of the three parts one after the other, each in the
  order in which a run gets its rows, so that training equals that on the unfrozen split;
- ``manifest.json``: protocol, seed, the settings that chose the rows, counts and checksums.

The bytes depend on the source, the settings and this package's version alone.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from recbole_llm.files import replacing_folder, sha256_of
from recbole_llm.splitting.consistency import check_manifest

PARTS = ("train", "valid", "test")
MANIFEST, ROWS = "manifest.json", "rows.npy"
#: Files of a split, all of which its manifest names.
FILES = (*(f"{part}.inter" for part in PARTS), ROWS)

#: Settings that choose or name rows: a frozen split fixes them, and its runs take them over.
ROW_SETTINGS = (
    "USER_ID_FIELD",
    "ITEM_ID_FIELD",
    "TIME_FIELD",
    "field_separator",
    "encoding",
    "benchmark_filename",
    "rm_dup_inter",
    "val_interval",
    "filter_inter_by_user_or_item",
    "user_inter_num_interval",
    "item_inter_num_interval",
)
_LINES_AT_A_TIME = 1_000_000


class FrozenSplit(NamedTuple):
    """A frozen split as its manifest has it.

    Attributes:
        folder: folder of the split's files.
        manifest: content of ``manifest.json``.
    """

    folder: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """The name that ``--split`` takes."""
        return self.folder.name

    @property
    def protocol(self) -> str:
        """Protocol of the split, for example ``random811``."""
        return str(self.manifest["protocol"])

    @property
    def settings(self) -> dict[str, Any]:
        """The values of ``ROW_SETTINGS`` that chose the rows."""
        return dict(self.manifest["settings"])

    @property
    def sha256(self) -> str:
        """Digest of everything that decides the split: source, files, protocol, settings."""
        return str(self.manifest["sha256"])

    def describe(self) -> dict[str, Any]:
        """Return what a run's record keeps of the split."""
        keys = ("protocol", "seed", "sha256")
        return {"name": self.name, **{key: self.manifest[key] for key in keys}}

    def check_files(self, source: Path) -> None:
        """Compare the source and every file of the split with the manifest's checksums.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file was changed; the message has both checksums.
        """
        expected = {source: self.manifest["source"]["sha256"]}
        expected |= {self.folder / name: sha for name, sha in self.manifest["files"].items()}
        for path, sha256 in expected.items():
            if not path.is_file():
                raise FileNotFoundError(f"split {self.name!r}: {path} is missing.")
            found = sha256_of(path)
            if found != sha256:
                raise ValueError(
                    f"split {self.name!r}: {path} was changed since the split was frozen: sha256 "
                    f"{sha256} then, {found} now. Restore the file, or freeze a new split "
                    f"with `recbole_llm split`."
                )

    def rows(self) -> list[NDArray[np.int64]]:
        """Return the source's row numbers of training, validation and test, (n,) each.

        Raises:
            ValueError: they are not as many as the manifest says, are not rows of the source, or
                one is there twice.
        """
        path, counts = self.folder / ROWS, self.manifest["counts"]
        sizes = [counts[part] for part in PARTS]
        rows = np.load(path, allow_pickle=False)
        if rows.ndim != 1 or rows.dtype != np.int32 or len(rows) != sum(sizes):
            raise ValueError(
                f"split {self.name!r}: {path} holds {rows.dtype} of shape {rows.shape}, and "
                f"{MANIFEST} counts {sum(sizes)} rows."
            )
        if len(rows) and not 0 <= rows.min() <= rows.max() < counts["source"]:
            raise ValueError(
                f"split {self.name!r}: {path} names rows that the source of {counts['source']} "
                f"rows lacks."
            )
        if np.bincount(rows).max(initial=0) > 1:
            raise ValueError(f"split {self.name!r}: {path} names a row of the source twice.")
        return np.split(rows.astype(np.int64), np.cumsum(sizes)[:-1])


def read_frozen(name: str, dataset_folder: Path, dataset: str) -> FrozenSplit:
    """Read a split's manifest.

    Args:
        name: name of a folder under ``splits/``, or a path to a split's folder.
        dataset_folder: ``<data_path>/<dataset>``.
        dataset: name of the dataset that the split must belong to.

    Raises:
        FileNotFoundError: the split does not exist; lists the existing ones.
        ValueError: the manifest was changed, does not name all files of the split, or belongs to
            another dataset.
    """
    splits = dataset_folder / "splits"
    folder = Path(name) if os.sep in name else splits / name
    path = folder / MANIFEST
    if not path.is_file():
        known = sorted(file.parent.name for file in splits.glob(f"*/{MANIFEST}"))
        raise FileNotFoundError(
            f"dataset {dataset!r} has no frozen split {name!r}: no {path}. "
            f"Existing splits: {', '.join(known) or 'none'}. Freeze one: "
            f"recbole_llm split --dataset={dataset} --protocol=..."
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        recorded, found = manifest["sha256"], _digest(manifest)
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
        raise ValueError(f"{path} is not the manifest of a split: {error!r}.") from error
    if recorded != found:
        raise ValueError(
            f"{path} was changed since the split was frozen: sha256 {recorded} then, {found} now."
        )
    try:
        check_manifest(manifest, FILES)
    except ValueError as error:
        raise ValueError(f"{path} is not the manifest of a split: {error}") from error
    if manifest["dataset"] != dataset:
        raise ValueError(f"{path} is a split of {manifest['dataset']!r}, not of {dataset!r}.")
    return FrozenSplit(folder, manifest)


def _frozen_digest(path: Path) -> str | None:
    """Return the digest that a manifest has of itself, None where it is missing or damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        return str(json.loads(path.read_text(encoding="utf-8"))["sha256"])
    return None


def write_frozen(
    folder: Path, manifest: Mapping[str, Any], source: Path, rows: Sequence[NDArray[np.integer]]
) -> FrozenSplit:
    """Write a split; the same split again leaves the same bytes.

    Args:
        folder: folder of the split; its last part is the split's name.
        manifest: content without checksums; ``counts["source"]`` is the source's number of rows.
        source: the ``.inter`` file.
        rows: row numbers of each part, in the order in which a run gets them.

    Raises:
        ValueError: another split has this name, or the source's lines are not its rows.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))  # the same split at the same moment
    with lock, replacing_folder(folder) as partial:
        start = _line_starts(source, manifest["counts"]["source"])
        for part, index in zip(PARTS, rows, strict=True):
            _write_lines(partial / f"{part}.inter", source, start, index)
        np.save(partial / ROWS, np.concatenate(rows).astype(np.int32))
        content = {
            **manifest,
            "source": {"file": source.name, "sha256": sha256_of(source)},
            "files": {name: sha256_of(partial / name) for name in FILES},
        }
        content["sha256"] = _digest(content)
        text = json.dumps(content, indent=1) + "\n"
        (partial / MANIFEST).write_text(text, encoding="utf-8")
        if folder.exists():
            if _frozen_digest(folder / MANIFEST) != content["sha256"]:
                raise ValueError(
                    f"{folder} holds another split. Give this one another --name, or remove "
                    f"the folder if no run needs it."
                )
    return FrozenSplit(folder, content)


def _digest(manifest: Mapping[str, Any]) -> str:
    # The version says who wrote it, and does not decide the split.
    content = {k: v for k, v in manifest.items() if k not in ("sha256", "version")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _line_starts(source: Path, n_rows: int) -> NDArray[np.int64]:
    """Return where the header, each row, and (last) the end of the file are, (n_rows + 2,)."""
    data = np.memmap(source, dtype=np.uint8, mode="r")
    is_end = data == ord("\n")
    is_return = data == ord("\r")  # a line end of its own, unless a line feed follows
    if is_return.any():
        is_end |= is_return & ~np.append(is_end[1:], False)
    end = np.flatnonzero(is_end) + 1
    if not end.size or end[-1] < len(data):
        end = np.append(end, len(data))
    start = np.concatenate([[0], end[:-1]])
    length = end - start
    is_blank = (length == 1) & is_end[start]
    is_blank |= (length == 2) & is_return[start]
    start = start[~is_blank]  # pandas skips them too; here each goes with the row before it
    if len(start) != n_rows + 1:
        raise ValueError(
            f"{source}: {len(start) - 1} lines are read as {n_rows} rows, so the lines cannot be "
            f"divided among the parts. Is its encoding not UTF-8?"
        )
    return np.append(start, len(data))


def _write_lines(
    path: Path, source: Path, start: NDArray[np.int64], rows: NDArray[np.integer]
) -> None:
    """Write the header and the lines of ``rows``, in the source's order."""
    data = np.memmap(source, dtype=np.uint8, mode="r")
    chosen = np.zeros(len(start) - 1, dtype=bool)
    chosen[0] = True
    chosen[rows + 1] = True
    with path.open("wb") as file:
        for begin in range(0, len(chosen), _LINES_AT_A_TIME):
            chunk = chosen[begin : begin + _LINES_AT_A_TIME]
            length = np.diff(start[begin : begin + len(chunk) + 1])
            block = data[start[begin] : start[begin + len(chunk)]]
            file.write(block[np.repeat(chunk, length)].tobytes())
