"""The inputs of an encoder: texts or images of a dataset's items, each distinct one once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from recbole_llm.data.atomic import read_item_columns
from recbole_llm.data.items import Items, item_texts
from recbole_llm.encoders.images import IMAGE_SUFFIXES, find_images
from recbole_llm.features.fetch import ImageCache
from recbole_llm.features.settings import EncodeSettings
from recbole_llm.files import sha256_of
from recbole_llm.net.http import PRIVATE


class Inputs(NamedTuple):
    """Inputs of an encoder, and the rows of the feature file that each is written to.

    Attributes:
        units: texts, or paths of image files; each once.
        rows: row numbers of each unit.
        missing: reason by row, of the rows without text or image.
        failed: reason by row, of the rows whose image could not be fetched.
        digest: sha256 of the item tokens with their texts or their images' bytes.
    """

    units: list[Any]
    rows: list[list[int]]
    missing: dict[int, str]
    failed: dict[int, str]
    digest: str


def text_inputs(items: Items, columns: Sequence[str]) -> Inputs:
    """Return the items' texts, the longest first: texts of a batch have similar lengths.

    Raises:
        FileNotFoundError: the ``.item`` file does not exist.
        ValueError: the file has no such column, or no item has text.
    """
    tokens = list(items.tokens[1:])
    texts = item_texts(columns, items)
    described = set(read_item_columns(items.item_file, [], items.config).index)
    missing = {
        row: "no text" if token in described else f"not in {items.item_file.name}"
        for row, (token, text) in enumerate(zip(tokens, texts, strict=True))
        if not text
    }
    if len(missing) == len(tokens):
        raise ValueError(f"no item has text in {', '.join(columns)} of {items.item_file}.")
    rows = _rows_of(texts)
    units = sorted(rows, key=lambda text: (-len(text), text))
    return Inputs(units, [rows[unit] for unit in units], missing, {}, _digest(tokens, texts))


def folder_inputs(items: Items, folder: Path, show_progress: bool) -> Inputs:
    """Return the items' images in a folder.

    Raises:
        FileNotFoundError: the folder does not exist, or has no item's image.
    """
    tokens = list(items.tokens[1:])
    expected = f"expected files: <item token>{'|'.join(IMAGE_SUFFIXES)}"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder {folder} ({expected}). Name it by --image_folder=FOLDER, or give "
            f"--url_column=NAME, a column of {items.item_file.name} with images' URLs."
        )
    found = find_images(folder, tokens)
    if not found:
        raise FileNotFoundError(
            f"{folder} has no image of any of the {len(tokens)} items; {expected}."
        )
    missing = {row: "no image file" for row, token in enumerate(tokens) if token not in found}
    paths = [found.get(token) for token in tokens]
    digests = _file_digests(paths, show_progress)
    rows = {path: [row] for row, path in enumerate(paths) if path is not None}
    return Inputs(list(rows), list(rows.values()), missing, {}, _digest(tokens, digests))


def url_inputs(items: Items, settings: EncodeSettings, show_progress: bool) -> Inputs:
    """Fetch the items' images, the first URL of each item's cell, and return them.

    Raises:
        FileNotFoundError: the ``.item`` file does not exist.
        ValueError: the file has no such column, no item has a URL, or no image could be fetched.
    """
    assert settings.url_column is not None
    tokens, column = list(items.tokens[1:]), settings.url_column
    urls, missing = _first_urls(items, tokens, column)
    rows = _rows_of(urls)
    if not rows:
        raise ValueError(f"no item has a URL in {column!r} of {items.item_file}.")
    cache = ImageCache(Path(items.config["cache_dir"]) / "images", settings.transport)
    failures = cache.fetch(list(rows), settings.retry_failed, show_progress)
    if len(failures) == len(rows):
        reasons = ", ".join(sorted(set(failures.values()))[:5])
        hint = " --allow_private_hosts allows private addresses." if PRIVATE in reasons else ""
        raise ValueError(
            f"none of the {len(rows)} images of {column!r} could be fetched ({reasons}). Is the "
            f"network up, and are the URLs right (the first: {next(iter(rows))})?{hint}"
        )
    failed = {row: failures[url] for row, url in enumerate(urls) if url in failures}
    paths = [cache.path(url) if url and url not in failures else None for url in urls]
    digest = _digest(tokens, _file_digests(paths, show_progress))
    fetched = [url for url in rows if url not in failures]
    units = [cache.path(url) for url in fetched]
    return Inputs(units, [rows[url] for url in fetched], missing, failed, digest)


def _first_urls(
    items: Items, tokens: Sequence[str], column: str
) -> tuple[list[str], dict[int, str]]:
    """Return each item's URL, "" without one, and the reason of each row that has none."""
    cells = read_item_columns(items.item_file, [column], items.config)[column]
    separator = items.config["seq_separator"]
    urls = [next(iter(cells.get(token, "").split(separator)), "").strip() for token in tokens]
    missing = {
        row: "no URL" if tokens[row] in cells.index else f"not in {items.item_file.name}"
        for row, url in enumerate(urls)
        if not url
    }
    return urls, missing


def _rows_of(values: Sequence[str]) -> dict[str, list[int]]:
    """Return the rows of each distinct value that is not empty, in the order of the first."""
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        if value:
            rows.setdefault(value, []).append(row)
    return rows


def _file_digests(paths: Sequence[Path | None], show_progress: bool) -> list[str]:
    """Return the sha256 of each file, "" for None; a file that occurs twice is read once."""
    digests: dict[Path | None, str] = {None: ""}
    for path in tqdm(
        paths, desc="checking", unit="image", disable=not show_progress, dynamic_ncols=True
    ):
        if path not in digests:
            assert path is not None
            digests[path] = sha256_of(path)
    return [digests[path] for path in paths]


def _digest(tokens: Sequence[str], contents: Sequence[str]) -> str:
    pairs = list(zip(tokens, contents, strict=True))
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
