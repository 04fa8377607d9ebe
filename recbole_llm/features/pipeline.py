"""From a dataset's items to a feature file and its manifest.

In the dataset's folder, or where ``--output`` names::

    <modality>_feat.npy   (items, width) float16 or float32, one row an item in the order of
                          item_ids.txt; rows of zeros for items without text or image
    <modality>_feat.json  the manifest, see ``manifest``
    item_ids.txt          one item token a line; written in the order of <dataset>.item if missing
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import recbole
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from tqdm import tqdm

from recbole_llm.data.atomic import interaction_items, text_columns
from recbole_llm.data.items import Items, listed_rows
from recbole_llm.encoders.efficientnet import LiteEncoder
from recbole_llm.encoders.image_batches import ImageEncoder
from recbole_llm.encoders.sentences import SentenceEncoder
from recbole_llm.encoders.vision import VisionEncoder
from recbole_llm.features.inputs import Inputs, folder_inputs, text_inputs, url_inputs
from recbole_llm.features.manifest import (
    build_manifest,
    manifest_path,
    read_manifest,
    write_manifest,
)
from recbole_llm.features.partial import PartialFeatures
from recbole_llm.features.settings import IMAGE_ENCODER, TEXT_ENCODER, EncodeSettings
from recbole_llm.files import clear_partials_of, sha256_of, write_ids

if TYPE_CHECKING:
    from recbole_llm.config import Config


class Encoded(NamedTuple):
    """A feature file, its manifest, and whether this call made it."""

    path: Path
    manifest: dict[str, Any]
    is_new: bool

    @property
    def manifest_path(self) -> Path:
        """Path of the manifest."""
        return manifest_path(self.path)

    def spec(self, folder: Path) -> str:
        """Return the file as ``modalities`` names it, for a dataset in ``folder``."""
        is_inside = self.path.parent.resolve() == folder.resolve()
        return self.path.name if is_inside else str(self.path.resolve())


def encode_items(settings: EncodeSettings, config: Config) -> Encoded:
    """Encode a dataset's items; an interrupted call with the same settings is resumed.

    Args:
        settings: modality, encoder and files.
        config: settings of the data; reads ``data_path``, ``cache_dir``, ``device``,
            ``show_progress``, ``torch_threads``.

    Raises:
        ValueError, OSError, ImportError: the settings, data, encoder or a file is wrong.
    """
    output = output_path(settings, config)
    if config["torch_threads"]:
        torch.set_num_threads(config["torch_threads"])
    tokens, _ = listed_rows(Items(config, []))
    items = Items(config, ["[PAD]", *tokens])
    columns = _columns(settings, items)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(output.with_name(f".{output.name}.lock"), timeout=0):
            clear_partials_of(manifest_path(output))
            return _Encoding(settings, items, output, columns).run()
    except Timeout as error:
        raise ValueError(f"another process is writing {output}.") from error
    except PermissionError as error:
        raise OSError(f"cannot write to {output.parent}. Name another file by --output.") from error


def output_path(settings: EncodeSettings, config: Config) -> Path:
    """Return the path of the feature file.

    Raises:
        ValueError: the dataset's folder is in the recbole package, and ``output`` is not given.
    """
    if settings.output is not None:
        return Path(settings.output)
    folder = Path(config["data_path"])
    if _is_in_recbole(folder):
        raise ValueError(
            f"dataset {config['dataset']!r} is read from the installed recbole package, where "
            f"nothing is written. Give --output=FILE.npy, or copy {folder} to a folder of your own "
            f"and name its parent by --data_path."
        )
    return folder / f"{settings.modality}_feat.npy"


def _is_in_recbole(folder: Path) -> bool:
    return Path(recbole.__file__).parent.resolve() in folder.resolve().parents


def _columns(settings: EncodeSettings, items: Items) -> list[str]:
    """Return the columns of the ``.item`` file that are the items' text; none for images."""
    if settings.modality != "text":
        return []
    if not items.item_file.is_file():
        raise FileNotFoundError(
            f"{items.item_file} does not exist. It must hold the items' text: tab separated, with "
            f"a header such as {items.config['ITEM_ID_FIELD']}:token<TAB>title:token_seq."
        )
    columns = text_columns(settings.columns, items.item_file, items.config, option="--columns")
    if not columns:
        raise ValueError(f"{items.item_file} has no column of text. Name some by --columns=A,B.")
    return columns


class _Encoding:
    """One feature file in the making, by the only process that writes it."""

    def __init__(
        self, settings: EncodeSettings, items: Items, output: Path, columns: list[str]
    ) -> None:
        self.settings, self.items, self.output = settings, items, output
        self.columns, self.config, self.tokens = columns, items.config, items.tokens[1:]
        self.show_progress = bool(self.config["show_progress"])
        self.encoder = self._load_encoder()

    def run(self) -> Encoded:
        identity = self._identity()
        # Before images are fetched for hours, and again when the inputs are known.
        self._read_existing(identity)
        inputs = self._inputs()
        identity["inputs_sha256"] = inputs.digest
        existing = self._read_existing(identity)
        if existing is not None:
            return Encoded(self.output, existing, is_new=False)
        if not inputs.units:
            raise ValueError("there is nothing to encode.")
        shape, dtype = (len(self.tokens), self.encoder.width), self.settings.dtype
        partial = PartialFeatures(self.output, identity, shape, dtype, self.settings.overwrite)
        self._encode(inputs, partial)
        if len(partial.failed) == len(inputs.units):
            partial.discard()
            reasons = ", ".join(sorted(set(partial.failed.values()))[:5])
            raise ValueError(f"none of the {len(inputs.units)} inputs can be encoded: {reasons}.")
        failed_rows = {
            row: reason for unit, reason in partial.failed.items() for row in inputs.rows[unit]
        }
        manifest = build_manifest(
            self.output,
            sha256_of(partial.path),
            identity,
            self.tokens,
            inputs,
            inputs.failed | failed_rows,
            interaction_items(self.config),
        )
        if not self.items.ids_file.is_file() and not _is_in_recbole(self.items.folder):
            write_ids(self.items.ids_file, self.tokens)
        # The manifest comes first: after a kill in between, the next run finds the partial file.
        write_manifest(self.output, manifest)
        partial.finish()
        return Encoded(self.output, manifest, is_new=True)

    def _load_encoder(self) -> SentenceEncoder | ImageEncoder:
        settings, device = self.settings, self.config["device"]
        if settings.modality == "text":
            return SentenceEncoder(settings.encoder or TEXT_ENCODER, settings.revision, device)
        pooling = settings.pooling or "auto"
        if settings.encoder in (None, IMAGE_ENCODER):
            return LiteEncoder(pooling, device)
        return VisionEncoder(settings.encoder, settings.revision, pooling, device)

    def _identity(self) -> dict[str, Any]:
        """Return all that the file's numbers depend on, except the inputs."""
        settings = self.settings
        source = {"columns": self.columns} if self.columns else {"url_column": settings.url_column}
        return {
            "dataset": self.config["dataset"],
            "modality": settings.modality,
            **self.encoder.identity,
            **source,
            "dtype": settings.dtype,
        }

    def _read_existing(self, identity: dict[str, Any]) -> dict[str, Any] | None:
        """Return the manifest of the finished file; None if there is none or it is replaced."""
        return None if self.settings.overwrite else read_manifest(self.output, identity)

    def _inputs(self) -> Inputs:
        if self.settings.modality == "text":
            return text_inputs(self.items, self.columns)
        if self.settings.url_column:
            return url_inputs(self.items, self.settings, self.show_progress)
        folder = Path(self.settings.image_folder or self.items.folder / "images")
        return folder_inputs(self.items, folder, self.show_progress)

    def _encode(self, inputs: Inputs, partial: PartialFeatures) -> None:
        """Encode the remaining inputs; every batch is on disk before the next begins."""
        size, total = self.settings.batch_size, len(inputs.units)
        with tqdm(
            total=total,
            initial=partial.n_done,
            desc="encoding",
            unit=self.settings.modality,
            disable=not self.show_progress,
            dynamic_ncols=True,
        ) as bar:
            while partial.n_done < total:
                begin, end = partial.n_done, min(partial.n_done + size, total)
                vectors, failures = self.encoder.encode(inputs.units[begin:end])
                failed = {begin + index: reason for index, reason in failures.items()}
                encoded = [inputs.rows[unit] for unit in range(begin, end) if unit not in failed]
                rows = np.array([row for unit in encoded for row in unit], dtype=np.int64)
                repeats = [len(unit) for unit in encoded]
                partial.write(end, rows, self._block(vectors, repeats, rows), failed)
                bar.update(end - begin)
                bar.set_postfix_str(f"failed {len(partial.failed):,}" if partial.failed else "")

    def _block(
        self, vectors: NDArray[Any], repeats: list[int], rows: NDArray[np.int64]
    ) -> NDArray[Any]:
        """Return the vectors (inputs, width) as rows (n, width) of the file, in its number type.

        Raises:
            ValueError: a vector holds NaN or infinity in that type.
        """
        with np.errstate(over="ignore"):  # reported just below
            block = np.repeat(vectors, repeats, axis=0).astype(self.settings.dtype)
        wrong = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if wrong.size:
            hint = " Try --dtype=float32." if self.settings.dtype == "float16" else ""
            raise ValueError(
                f"the encoder gives NaN or infinity (as {self.settings.dtype}) for item "
                f"{self.tokens[rows[wrong[0]]]!r}.{hint}"
            )
        return block
