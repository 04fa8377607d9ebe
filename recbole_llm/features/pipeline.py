"""From a data set's items to a feature file and its manifest.

Beside the data set's atomic files, or at ``--output``::

    <modality>_feat.npy   (items, width) float16 or float32, a row an item in the order of
                          item_ids.txt; zero rows for items without text or image
    <modality>_feat.json  the manifest: settings, encoder and its version, counts of items without a
                          feature with reasons, versions of packages, sha256 of inputs and file
    item_ids.txt          written in the order of <dataset>.item if it is not there
"""

from __future__ import annotations

import importlib.metadata
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import recbole
from filelock import FileLock, Timeout
from tqdm import tqdm

from recbole_llm.data.atomic import interaction_items, text_columns
from recbole_llm.data.items import Items, listed_rows
from recbole_llm.encoders.sentences import SentenceEncoder
from recbole_llm.encoders.vision import ImageEncoder
from recbole_llm.features.inputs import Inputs, folder_inputs, text_inputs, url_inputs
from recbole_llm.features.partial import PartialFeatures, difference
from recbole_llm.features.settings import TEXT_ENCODER, Settings
from recbole_llm.files import replacing, sha256_of, write_ids

if TYPE_CHECKING:
    from recbole_llm.config import Config

_PACKAGES = {
    "text": ("recbole-llm", "numpy", "torch", "transformers", "sentence-transformers"),
    "image": ("recbole-llm", "numpy", "torch", "transformers", "pillow"),
}


class Encoded(NamedTuple):
    """A feature file, its manifest, and whether it was there already."""

    path: Path
    manifest: dict[str, Any]
    was_there: bool

    @property
    def manifest_path(self) -> Path:
        """Where the manifest is."""
        return self.path.with_suffix(".json")

    def spec(self, folder: Path) -> str:
        """Return the file as ``modalities`` names it, for a data set in ``folder``."""
        is_inside = self.path.parent.resolve() == folder.resolve()
        return self.path.name if is_inside else str(self.path.resolve())


def encode(settings: Settings, config: Config) -> Encoded:
    """Encode a data set's items; goes on where a killed run of the same settings stopped.

    Args:
        settings: of the command.
        config: of the data; reads ``data_path``, ``cache_dir``, ``device``, ``show_progress``.

    Raises:
        ValueError, OSError, ImportError: what is wrong with the settings, data, encoder or files.
    """
    output = output_path(settings, config)
    rows, _ = listed_rows(Items(config, []))
    items = Items(config, ["[PAD]", *rows])
    columns = _columns(settings, items)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(output.with_name(f".{output.name}.lock"), timeout=0)
        with lock:
            return _Job(settings, items, output, columns).run()
    except Timeout as error:
        raise ValueError(f"another process is writing {output}.") from error
    except PermissionError as error:
        raise OSError(f"cannot write to {output.parent}. Name another file by --output.") from error


def output_path(settings: Settings, config: Config) -> Path:
    """Return where the feature file goes.

    Raises:
        ValueError: the data set's folder is RecBole's own and no other place is named.
    """
    if settings.output is not None:
        return Path(settings.output)
    folder = Path(config["data_path"])
    if _is_recboles(folder):
        raise ValueError(
            f"dataset {config['dataset']!r} is read from the installed recbole package, where "
            f"nothing is written. Give --output=FILE.npy, or copy {folder} to a folder of your own "
            f"and name its parent by --data_path."
        )
    return folder / f"{settings.modality}_feat.npy"


def _is_recboles(folder: Path) -> bool:
    return Path(recbole.__file__).parent.resolve() in folder.resolve().parents


def _columns(settings: Settings, items: Items) -> list[str]:
    if settings.modality != "text":
        return []
    if not items.item_file.is_file():
        raise FileNotFoundError(
            f"{items.item_file} does not exist, wanted for the items' text: tab separated, with a "
            f"header such as {items.config['ITEM_ID_FIELD']}:token<TAB>title:token_seq."
        )
    columns = text_columns(settings.columns, items.item_file, items.config, option="--columns")
    if not columns:
        raise ValueError(f"{items.item_file} has no column of text. Name some by --columns=A,B.")
    return columns


class _Job:
    def __init__(self, settings: Settings, items: Items, output: Path, columns: list[str]) -> None:
        self.settings, self.items, self.output = settings, items, output
        self.columns, self.config, self.rows = columns, items.config, items.tokens[1:]
        self.manifest_path = output.with_suffix(".json")
        self.show_progress = bool(self.config["show_progress"])
        self.encoder = self._load_encoder()

    def run(self) -> Encoded:
        wanted = self._identity()
        # Before images are fetched for hours, and again when it is known what they are.
        self._check_existing(wanted)
        inputs = self._inputs()
        wanted["inputs_sha256"] = inputs.digest
        known = self._check_existing(wanted)
        if known is not None and not self.settings.overwrite:
            return Encoded(self.output, known, was_there=True)
        if not inputs.units:
            raise ValueError("there is nothing to encode.")
        shape = (len(self.rows), self.encoder.width)
        partial = PartialFeatures(
            self.output, wanted, shape, self.settings.dtype, self.settings.overwrite
        )
        self._encode(inputs, partial)
        failed = inputs.failed | {
            row: reason for unit, reason in partial.failed.items() for row in inputs.rows[unit]
        }
        if len(partial.failed) == len(inputs.units):
            partial.discard()
            reasons = ", ".join(sorted(set(partial.failed.values()))[:5])
            raise ValueError(f"none of the {len(inputs.units)} inputs can be encoded: {reasons}.")
        manifest = self._manifest(wanted, inputs, failed, sha256_of(partial.path))
        if not self.items.ids_file.is_file() and not _is_recboles(self.items.folder):
            write_ids(self.items.ids_file, self.rows)
        # First the manifest: killed in between, the next run finds the finished partial file.
        with replacing(self.manifest_path) as file:
            file.write((json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())
        partial.finish()
        return Encoded(self.output, manifest, was_there=False)

    def _load_encoder(self) -> SentenceEncoder | ImageEncoder:
        settings, device = self.settings, self.config["device"]
        if settings.modality == "text":
            return SentenceEncoder(settings.encoder or TEXT_ENCODER, settings.revision, device)
        assert settings.encoder is not None
        return ImageEncoder(settings.encoder, settings.revision, settings.pooling or "auto", device)

    def _identity(self) -> dict[str, Any]:
        """Return all that the file's numbers depend on, but for the inputs."""
        settings = self.settings
        source = {"columns": self.columns} if self.columns else {"url_column": settings.url_column}
        return {
            "dataset": self.config["dataset"],
            "modality": settings.modality,
            **self.encoder.identity,
            **source,
            "dtype": settings.dtype,
        }

    def _check_existing(self, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the manifest of the feature file that is there, if it is as wanted.

        Raises:
            ValueError: it is not, and --overwrite is not given.
        """
        if not self.output.is_file() or self.settings.overwrite:
            return None
        again = "Give --overwrite to replace it, or --output=FILE.npy for another file."
        try:
            manifest = dict(json.loads(self.manifest_path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise ValueError(
                f"{self.output} is there without {self.manifest_path.name}, so nobody knows what "
                f"it is made from. {again}"
            ) from None
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.manifest_path} is damaged: {error}. {again}") from error
        found = {name: manifest.get(name) for name in wanted}
        if found != wanted:
            raise ValueError(
                f"{self.output} was made with other settings or inputs "
                f"({difference(found, wanted)}). {again}"
            )
        if manifest.get("sha256") != sha256_of(self.output):
            raise ValueError(
                f"{self.output} is not the file that {self.manifest_path.name} describes. {again}"
            )
        return manifest

    def _inputs(self) -> Inputs:
        if self.settings.modality == "text":
            return text_inputs(self.items, self.columns)
        if self.settings.url_column:
            return url_inputs(self.items, self.settings, self.show_progress)
        folder = Path(self.settings.image_folder or self.items.folder / "images")
        return folder_inputs(self.items, folder, self.show_progress)

    def _encode(self, inputs: Inputs, partial: PartialFeatures) -> None:
        """Encode what is not done yet, batch by batch; every batch is on disk before the next."""
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
                failed = {begin + position: reason for position, reason in failures.items()}
                good = [inputs.rows[unit] for unit in range(begin, end) if unit not in failed]
                rows = np.array([row for unit in good for row in unit], dtype=np.int64)
                with np.errstate(over="ignore"):  # reported just below
                    block = np.repeat(vectors, [len(unit) for unit in good], axis=0).astype(
                        self.settings.dtype
                    )
                bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
                if bad.size:
                    hint = " Try --dtype=float32." if self.settings.dtype == "float16" else ""
                    raise ValueError(
                        f"the encoder gives NaN or infinity (as {self.settings.dtype}) for item "
                        f"{self.rows[rows[bad[0]]]!r}.{hint}"
                    )
                partial.write(end, rows, block, failed)
                bar.update(end - begin)
                bar.set_postfix_str(f"failed {len(partial.failed):,}" if partial.failed else "")

    def _manifest(
        self, wanted: Mapping[str, Any], inputs: Inputs, failed: Mapping[int, str], digest: str
    ) -> dict[str, Any]:
        without = {self.rows[row]: why for row, why in sorted({**inputs.missing, **failed}.items())}
        packages = _PACKAGES[self.settings.modality]
        strangers = interaction_items(self.config) - set(self.rows)
        return {
            "file": self.output.name,
            "sha256": digest,
            **wanted,
            "items": len(self.rows),
            "encoded": len(self.rows) - len(without),
            "distinct_inputs": len(inputs.units),
            "missing": _counts(inputs.missing),
            "failed": _counts(failed),
            "interaction_items_without_row": len(strangers),
            "items_without_feature": without,
            "versions": {name: importlib.metadata.version(name) for name in packages},
        }


def _counts(reasons: Mapping[int, str]) -> dict[str, int]:
    return dict(sorted(Counter(why.partition(":")[0] for why in reasons.values()).items()))
