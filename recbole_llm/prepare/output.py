"""Writes a dataset's folder: atomic files, features, and the settings that fit them."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from recbole_llm.prepare.interactions import Interactions
from recbole_llm.prepare.lines import LineCount
from recbole_llm.prepare.raw_files import Fetched
from recbole_llm.prepare.sources.base import Feature, Source

PARTS = ("train", "valid", "test")
_ROWS = 100_000  # written at a time
_COMMENT = """\
# Written by `recbole_llm prepare`: what is in this folder. It is read in place of the shipped
# settings of a dataset of this name; config files and the command line go over it.
"""


def write_interactions(
    folder: Path,
    name: str,
    source: Source,
    data: Interactions,
    users: Sequence[str],
    items: Sequence[str],
) -> None:
    """Write ``<name>.inter``, or a file a part if the source is split, in the order of ``data``.

    Raises:
        ValueError: a part of the split has no interaction.
    """
    if not source.is_split:
        _write_rows(folder / f"{name}.inter", source.inter_columns, data, users, items)
        return
    for number, part in enumerate(PARTS):
        rows = data.take(data.part == number)
        if not len(rows.user):
            raise ValueError(f"the {part} part of {name} has no interaction.")
        _write_rows(folder / f"{name}.{part}.inter", source.inter_columns, rows, users, items)


def _write_rows(
    path: Path,
    columns: Sequence[str],
    data: Interactions,
    users: Sequence[str],
    items: Sequence[str],
) -> None:
    numbers = [{"rating": data.rating, "timestamp": data.time}[name] for name in columns]
    with path.open("w", encoding="utf-8", newline="\n") as file:
        header = ["user_id:token", "item_id:token", *(f"{name}:float" for name in columns)]
        file.write("\t".join(header) + "\n")
        for start in range(0, len(data.user), _ROWS):
            span = slice(start, start + _ROWS)
            cells = [[users[code] for code in data.user[span].tolist()]]
            cells.append([items[code] for code in data.item[span].tolist()])
            cells += [[_number(value) for value in column[span].tolist()] for column in numbers]
            file.writelines("\t".join(row) + "\n" for row in zip(*cells, strict=True))


def _number(value: float) -> str:
    """Return a number as an atomic file has it; "" for one that is missing."""
    if math.isnan(value):
        return ""
    return str(int(value)) if value.is_integer() else repr(value)


def empty_cells(source: Source, data: Interactions) -> dict[str, int]:
    """Return how many interactions lack a number, for each column in which some do."""
    columns = {"rating": data.rating, "timestamp": data.time}
    counts = {name: int(np.isnan(columns[name]).sum()) for name in source.inter_columns}
    return {name: count for name, count in counts.items() if count}


def write_items(
    folder: Path,
    name: str,
    source: Source,
    files: Mapping[str, Fetched],
    codes: Mapping[str, int],
) -> tuple[list[str], dict[str, int], dict[str, LineCount]]:
    """Write ``<name>.item`` (if the source has columns) and ``item_ids.txt``.

    Items come in the order of the source's file, then those that it does not describe, with empty
    cells. If the source describes an item twice, the first description counts.

    Args:
        folder: folder of the dataset.
        name: name of the dataset.
        source: source that describes the items.
        files: raw files of the source, by role.
        codes: item token to code, from 0.

    Returns:
        order: item tokens in the order of both files.
        described: ``items_described``, how many items the source describes, and
            ``described_again``, how many further descriptions of them were left out.
        counts: lines read, by file name.
    """
    order: dict[str, None] = {}
    described = {"items_described": 0, "described_again": 0}
    counts: dict[str, LineCount] = {}
    kinds = list(source.item_columns.values())
    if kinds:
        with (folder / f"{name}.item").open("w", encoding="utf-8", newline="\n") as file:
            columns = [f"{column}:{kind}" for column, kind in source.item_columns.items()]
            file.write("\t".join(["item_id:token", *columns]) + "\n")

            def write(token: str, *cells: Any) -> None:
                if token in order:
                    described["described_again"] += 1
                else:
                    texts = [_cell(cell, kind) for cell, kind in zip(cells, kinds, strict=True)]
                    file.write("\t".join([token, *texts]) + "\n")
                    order[token] = None

            counts = source.read_items(files, codes, write)
            described["items_described"] = len(order)
            for token in codes:
                if token not in order:
                    write(token, *[None] * len(kinds))
    else:
        order = dict.fromkeys(codes)
    text = "".join(f"{token}\n" for token in order)
    (folder / "item_ids.txt").write_text(text, encoding="utf-8", newline="\n")
    return list(order), described, counts


def _cell(value: Any, kind: str) -> str:
    """Return the text of a cell: one line, no tab, no double quote, no zero byte.

    Two single quotes stay readable, as inches do, and no reader takes them for the start of a
    quoted cell. A number that is not finite is missing.
    """
    if value is None:
        return ""
    if kind == "float":
        return _number(float(value)) if math.isfinite(value) else ""
    if isinstance(value, list):  # names: their spaces would part them
        names = ("_".join(str(name).split()) for name in value)
        value = " ".join(dict.fromkeys(filter(None, names)))
    text = str(value).encode(errors="replace").decode()  # bytes that are not UTF-8 become "?"
    return " ".join(text.replace('"', "''").replace("\0", " ").split())


def write_feature(path: Path, feature: Feature, order: Sequence[str]) -> dict[str, Any]:
    """Write features as ``.npy``, row by row, so that no more than one row is in memory.

    Args:
        path: file to write.
        feature: features in the order of the source.
        order: item tokens in the order of the rows to write.

    Returns:
        Entry of the manifest: shape, dtype, ``items_without`` (their rows are zero) and, among
        those, ``not_finite``: items whose features hold NaN or infinity.
    """
    row_of = {token: row for row, token in enumerate(order)}
    dtype, shape = np.dtype(feature.dtype), (len(order), feature.width)
    row_bytes = feature.width * dtype.itemsize
    written = np.zeros(len(order), dtype=bool)
    not_finite = 0
    with path.open("wb") as file:
        descr = np.lib.format.dtype_to_descr(dtype)
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        file.truncate(start + row_bytes * len(order))
        for token, vector in feature.rows:
            row = row_of.get(token)
            if row is None or written[row]:
                continue
            if not np.isfinite(vector).all():
                not_finite += 1
                continue
            file.seek(start + row_bytes * row)
            file.write(vector.tobytes())
            written[row] = True
    return {
        "shape": list(shape),
        "dtype": dtype.name,
        "items_without": int((~written).sum()),
        "not_finite": not_finite,
    }


def write_settings(
    folder: Path, source: Source, features: Mapping[str, str], columns: Sequence[str]
) -> None:
    """Write ``dataset.yaml``, which RecBole's settings include.

    Args:
        folder: folder of the dataset.
        source: source that was prepared.
        features: modality to its file.
        columns: columns of interactions that runs load besides the identifiers.
    """
    modalities: dict[str, Any] = dict(features)
    if source.text_columns and "text" not in modalities:
        modalities["text"] = {"text": list(source.text_columns), "encoder": "all-minilm-l6-v2"}
    for name, column in source.multi_hot_columns.items():
        modalities[name] = {"multi_hot": column}
    settings: dict[str, Any] = {}
    if source.is_split:
        settings["benchmark_filename"] = list(PARTS)
    settings["load_col"] = {"inter": ["user_id", "item_id", *columns]}
    settings["modalities"] = modalities
    settings |= source.settings
    text = yaml.safe_dump(settings, sort_keys=False, default_flow_style=None)
    (folder / "dataset.yaml").write_text(_COMMENT + text, encoding="utf-8", newline="\n")
