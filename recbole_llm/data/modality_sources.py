"""Where a modality comes from: a ``.npy`` file, text through an encoder, or words of a column.

Each source is one function that returns a float32 array (n_items, d) by RecBole-internal id: row 0
is padding, and an item without a feature has a row of zeros.
"""

import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from recbole_llm.config import Config
from recbole_llm.data.atomic import read_header
from recbole_llm.data.items import Items, item_cells, item_texts, listed_rows, words_of
from recbole_llm.data.profile import ITEM_FEATURE_FILE, check_unchanged
from recbole_llm.files import replacing
from recbole_llm.processes import main_first
from recbole_llm.terminal import shows_bars

_ROWS_AT_A_TIME = 4096

Feature = NDArray[np.float32]


def file_feature(parts: Mapping[str, Any], items: Items) -> Feature:
    """Read the items' rows of a ``.npy`` file; the rest of the file stays on disk."""
    path = items.folder / parts["file"]
    array = _open_npy(path)
    if path.name == ITEM_FEATURE_FILE:
        check_unchanged(path)
    row_ids, listed_in = listed_rows(items)
    if len(array) != len(row_ids):
        unit = "line" if listed_in == items.ids_file else "row"
        raise ValueError(
            f"{path.name} has {len(array)} rows, expected {len(row_ids)}, "
            f"one per {unit} of {listed_in.name}."
        )
    row_of = {token: row for row, token in enumerate(row_ids)}
    rows = np.array([row_of.get(str(token), -1) for token in items.tokens[1:]])
    feature = np.zeros((len(items.tokens), array.shape[1]), dtype=np.float32)
    order = np.argsort(rows, kind="stable")  # file order: reads run forward through the file
    order = order[rows[order] >= 0]
    for start in range(0, len(order), _ROWS_AT_A_TIME):
        index = order[start : start + _ROWS_AT_A_TIME]
        with np.errstate(over="ignore"):  # float64 too large for float32: reported just below
            block = array[rows[index]].astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if bad.size:
            row = rows[index[bad[0]]]
            raise ValueError(
                f"{path.name} holds NaN or infinity (as float32) in row {row}, "
                f"item {row_ids[row]!r}. Repair the file, or take that row and its id out."
            )
        feature[index + 1] = block
    return feature


def _open_npy(path: Path) -> NDArray[Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist. Add the file, or drop the modality from `modalities`."
        )
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a readable .npy array: {error}") from error
    kind = getattr(array, "dtype", None)  # an .npz archive has none
    if kind not in (np.float16, np.float32, np.float64) or array.ndim != 2 or not array.shape[1]:
        raise ValueError(
            f"{path.name} holds {kind} of shape {getattr(array, 'shape', None)}, expected float16, "
            f"float32 or float64 of shape (items, width)."
        )
    return array


def text_feature(parts: Mapping[str, Any], items: Items) -> Feature:
    """Encode the text of ``.item`` columns, joined by ", ", with a sentence encoder."""
    texts = item_texts(parts["text"], items)
    if not any(texts):
        raise ValueError(
            f"no item of the dataset has text in {', '.join(parts['text'])} of {items.item_file}."
        )
    from recbole_llm.encoders.text import encode_each_once

    # Distinct texts are sorted: the cache then depends on no order of items or interactions.
    def encode(distinct: list[str]) -> Feature:
        return _encode_cached(distinct, parts["encoder"], items.config)

    return encode_each_once(["", *texts], encode)


def multi_hot_feature(parts: Mapping[str, Any], items: Items) -> Feature:
    """Mark each token of an ``.item`` column with 1; columns are the sorted vocabulary.

    Dense: memory O(items * vocabulary).
    """
    vectorizer = CountVectorizer(analyzer=list, binary=True, dtype=np.float32)
    return _vectorized(vectorizer, parts["multi_hot"], items)


def tfidf_feature(parts: Mapping[str, Any], items: Items) -> Feature:
    """Weigh each token of an ``.item`` column by TF-IDF (scikit-learn's), L2-normalised rows.

    Dense: memory O(items * vocabulary), columns are the sorted vocabulary.
    """
    vectorizer = TfidfVectorizer(analyzer=list, dtype=np.float32)
    return _vectorized(vectorizer, parts["tfidf"], items)


def _vectorized(vectorizer: CountVectorizer, column: str, items: Items) -> Feature:
    cells = item_cells([column], items)[column]
    kind = read_header(items.item_file, items.config)[column]
    if kind not in ("token", "token_seq"):
        raise ValueError(
            f"column {column!r} of {items.item_file} has type {kind}, expected token or token_seq."
        )
    if kind == "token":
        words = [[cell] if cell else [] for cell in cells]
    else:
        words = [words_of(cell, items.config["seq_separator"]) for cell in cells]
    if not any(words):
        raise ValueError(f"no item of the dataset has a {column!r} in {items.item_file}.")
    matrix = vectorizer.fit_transform(words)
    feature = np.zeros((len(items.tokens), matrix.shape[1]), dtype=np.float32)
    matrix.toarray(out=feature[1:])
    return feature


def _encode_cached(texts: list[str], encoder: str, config: Config) -> Feature:
    """Encode texts, or read them from the cache that a key of all inputs names."""
    from recbole_llm.encoders.text import encode_texts, encoder_version

    key = [texts, encoder, encoder_version(encoder)]
    key.append(importlib.metadata.version("sentence-transformers"))
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    path = Path(config["cache_dir"] or "saved/cache") / "text" / f"{digest}.npy"
    with main_first():
        vectors = _read_cache(path, len(texts))
        if vectors is None:
            vectors = encode_texts(
                texts, encoder, show_progress=shows_bars(config["show_progress"])
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:  # a killed run leaves no half file under the real name
                np.save(file, vectors, allow_pickle=False)
    return vectors


def _read_cache(path: Path, n_rows: int) -> Feature | None:
    if not path.is_file():
        return None
    try:
        vectors = np.load(path, allow_pickle=False)
        if vectors.dtype == np.float32 and vectors.ndim == 2 and len(vectors) == n_rows:
            if np.isfinite(vectors).all():
                return vectors
        found = f"it holds {vectors.dtype} of shape {vectors.shape}, or NaN"
    except (ValueError, EOFError, OSError) as error:
        found = str(error)
    logging.getLogger().warning("cache file %s is damaged (%s): encoding again.", path, found)
    return None


#: Form of a spec, by its first key: the function that reads or makes the features.
SOURCES: dict[str, Callable[[Mapping[str, Any], Items], Feature]] = {
    "file": file_feature,
    "text": text_feature,
    "multi_hot": multi_hot_feature,
    "tfidf": tfidf_feature,
}
