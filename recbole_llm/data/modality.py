"""Item features from files, text and attributes, aligned to RecBole's item ids by item token.

A modality's spec is one of ``ACCEPTED_FORMS``. Each source is one function that returns a float32
array (n_items, d) by RecBole-internal id: row 0 is padding, and an item without a feature has a
row of zeros.
"""

import hashlib
import importlib.metadata
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from recbole_llm.config import Config
from recbole_llm.data.atomic import read_header, read_item_columns
from recbole_llm.files import replacing

ACCEPTED_FORMS = (
    "features.npy",
    "{file: features.npy}",
    "{text: [column, ...], encoder: all-minilm-l6-v2}",
    "{multi_hot: column}",
    "{tfidf: column}",
)
DEFAULT_ENCODER = "all-minilm-l6-v2"
_ROWS_AT_A_TIME = 4096

Feature = NDArray[np.float32]


class Items(NamedTuple):
    """The items that features are wanted for.

    Attributes:
        config: the run's settings.
        tokens: item tokens by RecBole-internal id; ``tokens[0]`` is padding.
    """

    config: Config
    tokens: Sequence[str]

    @property
    def folder(self) -> Path:
        """The dataset's folder."""
        return Path(self.config["data_path"])

    @property
    def item_file(self) -> Path:
        """The dataset's ``.item`` file, which need not exist."""
        return self.folder / f"{self.config['dataset']}.item"

    @property
    def ids_file(self) -> Path:
        """The list of item tokens in the row order of feature files, which need not exist."""
        return self.folder / "item_ids.txt"


def load_modality(name: str, spec: object, items: Items) -> Feature:
    """Build one modality from its spec.

    Returns:
        (n_items, d) float32, row 0 zero, zero rows for items without a feature.

    Raises:
        FileNotFoundError: a file that the spec needs does not exist.
        ValueError: the spec or a file is malformed; the message names the modality.
    """
    parts = _parse(name, spec, items)
    build = _BUILDERS[next(iter(parts))]
    try:
        return build(parts, items)
    except (FileNotFoundError, ValueError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(f"{_place(name, items)}: {error}") from error


def modality_files(name: str, spec: object, items: Items) -> list[Path]:
    """Return the files that a modality reads, whether they exist or not."""
    parts = _parse(name, spec, items)
    if "file" not in parts:
        return [items.item_file]
    return [
        items.folder / parts["file"],
        items.ids_file if items.ids_file.is_file() else items.item_file,
    ]


def fill_missing(name: str, feature: Feature, items: Items) -> int:
    """Apply ``missing_modality`` (zero, mean or error) to the zero rows of ``feature``, in place.

    Returns:
        How many items (padding not counted) have no feature.

    Raises:
        ValueError: the policy is unknown; it is ``error`` and items are missing; or no item at all
            has a feature, which under any policy means that tokens do not match.
    """
    policy = items.config["missing_modality"] or "zero"
    if policy not in ("zero", "mean", "error"):
        raise ValueError(f"missing_modality must be zero, mean or error, got {policy!r}.")
    missing = np.flatnonzero(~feature[1:].any(axis=1)) + 1
    if not missing.size:
        return 0
    n_items = len(feature) - 1
    first = ", ".join(repr(str(items.tokens[i])) for i in missing[:5])
    if missing.size == n_items:
        raise ValueError(
            f"{_place(name, items)}: none of the {n_items} items has a feature (first: {first}). "
            f"Do the item tokens of the feature's file match those of the interactions?"
        )
    if policy == "error":
        raise ValueError(
            f"{_place(name, items)}: {missing.size} of {n_items} items have no feature "
            f"(first: {first}). Add them, or choose missing_modality=zero or =mean."
        )
    logging.getLogger().warning(
        "%s: %d of %d items (%.3g %%) have no feature, they get %s (missing_modality: %s).",
        _place(name, items),
        missing.size,
        n_items,
        100 * missing.size / n_items,
        "zeros" if policy == "zero" else "the mean of the others",
        policy,
    )
    if policy == "mean":  # missing rows are zero and add nothing to the sum
        total = feature[1:].sum(axis=0, dtype=np.float64)
        feature[missing] = total / (n_items - missing.size)
    return int(missing.size)


def scale(name: str, feature: Feature, items: Items) -> None:
    """Apply ``modality_scaling`` to the items that have a feature, in place; zero rows stay zero.

    ``none`` leaves features as they are, ``l2`` brings each item's to length 1, ``standard`` each
    column to mean 0 and standard deviation 1 over the items. Features with a large common part (all
    columns positive, say) make every item near to every other; ``standard`` takes it out.

    Raises:
        ValueError: the setting is unknown.
    """
    how = items.config["modality_scaling"] or "none"
    if how not in ("none", "l2", "standard"):
        raise ValueError(f"modality_scaling must be none, l2 or standard, got {how!r}.")
    if how == "none":
        return
    there = feature.any(axis=1)
    rows = feature[there]
    if how == "l2":
        norm = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        feature[there] = rows / norm
        return
    mean = rows.mean(axis=0, dtype=np.float64)
    deviation = rows.std(axis=0, dtype=np.float64)
    # a constant column says nothing: it becomes zero
    deviation[deviation <= 1e-6 * np.abs(mean)] = np.inf
    feature[there] = (rows - mean) / deviation


def _place(name: str, items: Items) -> str:
    return f"modality {name!r} of dataset {items.config['dataset']!r}"


def _parse(name: str, spec: object, items: Items) -> Mapping[str, Any]:
    """Return the spec as a mapping whose first key says the form."""
    parts = {"file": spec} if isinstance(spec, str) else spec
    if isinstance(parts, Mapping):
        if set(parts) == {"text"} or set(parts) == {"text", "encoder"}:
            columns = parts["text"]
            columns = [columns] if isinstance(columns, str) else columns
            if columns and isinstance(columns, Sequence):
                return {"text": list(columns), "encoder": parts.get("encoder", DEFAULT_ENCODER)}
        elif len(parts) == 1 and set(parts) <= set(_BUILDERS):
            if all(isinstance(value, str) and value for value in parts.values()):
                return parts
    raise ValueError(
        f"{_place(name, items)}: cannot read the spec {spec!r}. "
        f"Accepted forms: {'; '.join(ACCEPTED_FORMS)}."
    )


def file_feature(parts: Mapping[str, Any], items: Items) -> Feature:
    """Read the items' rows of a ``.npy`` file; the rest of the file stays on disk."""
    path = items.folder / parts["file"]
    array = _open_npy(path)
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
            f"{path} does not exist. Put it there, or drop the modality from `modalities`."
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


def listed_rows(items: Items) -> tuple[list[str], Path]:
    """Return the item token of each row of a feature file, and the file that says so.

    Raises:
        FileNotFoundError: there is neither ``item_ids.txt`` nor the ``.item`` file.
        ValueError: ``item_ids.txt`` names an item twice, or the ``.item`` file is malformed.
    """
    if items.ids_file.is_file():
        tokens = items.ids_file.read_text(encoding="utf-8").rstrip("\n").split("\n")
        token, count = Counter(tokens).most_common(1)[0]
        if count > 1:
            raise ValueError(
                f"{items.ids_file} names item {token!r} {count} times, expected each item once, so "
                f"that each has one row of a feature file."
            )
        return tokens, items.ids_file
    if not items.item_file.is_file():
        raise FileNotFoundError(
            f"neither {items.ids_file} nor {items.item_file.name} is there to say which item each "
            f"row is. Write {items.ids_file.name}: one item token a line, in row order."
        )
    return list(read_item_columns(items.item_file, [], items.config).index), items.item_file


def text_feature(parts: Mapping[str, Any], items: Items) -> Feature:
    """Encode the text of ``.item`` columns, joined by ", ", with a sentence encoder."""
    texts = item_texts(parts["text"], items)
    # Each distinct text once, sorted: the cache then depends on no order of items or interactions.
    distinct = sorted(set(filter(None, texts)))
    if not distinct:
        raise ValueError(
            f"no item of the dataset has text in {', '.join(parts['text'])} of {items.item_file}."
        )
    vectors = _encode_cached(distinct, parts["encoder"], items.config)
    row_of = {text: row for row, text in enumerate(distinct)}
    feature = np.zeros((len(items.tokens), vectors.shape[1]), dtype=np.float32)
    for item, text in enumerate(texts, start=1):
        if text:
            feature[item] = vectors[row_of[text]]
    return feature


def item_texts(columns: Sequence[str], items: Items) -> list[str]:
    """Return each item's words in ``.item`` columns joined by ", ", padding left out.

    An item without words, or that the file does not have, gets "".
    """
    frame = _cells(columns, items)
    separator = items.config["seq_separator"]
    return [
        ", ".join(filter(None, (" ".join(_words(cell, separator)) for cell in row)))
        for row in frame.itertuples(index=False)
    ]


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


_BUILDERS: dict[str, Callable[[Mapping[str, Any], Items], Feature]] = {
    "file": file_feature,
    "text": text_feature,
    "multi_hot": multi_hot_feature,
    "tfidf": tfidf_feature,
}


def _vectorized(vectorizer: CountVectorizer, column: str, items: Items) -> Feature:
    cells = _cells([column], items)[column]
    kind = read_header(items.item_file, items.config)[column]
    if kind not in ("token", "token_seq"):
        raise ValueError(
            f"column {column!r} of {items.item_file} has type {kind}, expected token or token_seq."
        )
    if kind == "token":
        words = [[cell] if cell else [] for cell in cells]
    else:
        words = [_words(cell, items.config["seq_separator"]) for cell in cells]
    if not any(words):
        raise ValueError(f"no item of the dataset has a {column!r} in {items.item_file}.")
    matrix = vectorizer.fit_transform(words)
    feature = np.zeros((len(items.tokens), matrix.shape[1]), dtype=np.float32)
    matrix.toarray(out=feature[1:])
    return feature


def _cells(columns: Sequence[str], items: Items) -> Any:
    """Return the text cells (a data frame) of the dataset's items by id, padding left out."""
    frame = read_item_columns(items.item_file, columns, items.config)
    return frame.reindex([str(token) for token in items.tokens[1:]], fill_value="")


def _words(cell: str, separator: str) -> list[str]:
    return [word for word in cell.split(separator) if word]


def _encode_cached(texts: list[str], encoder: str, config: Config) -> Feature:
    """Encode texts, or read them from the cache that a key of all inputs names."""
    from recbole_llm.encoders.text import encode_texts, encoder_version

    key = [texts, encoder, encoder_version(encoder)]
    key.append(importlib.metadata.version("sentence-transformers"))
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    path = Path(config["cache_dir"] or "saved/cache") / "text" / f"{digest}.npy"
    cached = _read_cache(path, len(texts))
    if cached is not None:
        return cached
    vectors = encode_texts(texts, encoder, show_progress=bool(config["show_progress"]))
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
