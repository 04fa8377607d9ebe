"""Checkpoints that hold tensors and JSON text only, are loaded safely and replaced atomically.

Of several processes the main one reads and writes; the others get from it what it read.
"""

import json
import pickle
import random
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn

from recbole_llm.files import replacing
from recbole_llm.processes import from_main, is_main
from recbole_llm.trainer.checksum import DigestingFile, check_sum
from recbole_llm.version import __version__

FORMAT = "recbole-llm/1"
_HAS_SUM = "has_checksum"  # in the content, so that a file whose comment is cut off is noticed


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` to ``path``; an older file there survives until the new one is complete.

    Args:
        path: file to write; its folder is made.
        state: tensors, arrays, sparse matrices, JSON values, and dicts and lists of these.

    Raises:
        OSError: the file could not be written (disk full, no permission); nothing was lost.
        TypeError: a value is of another type.
    """
    if not is_main():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path, durable=True) as file:
            head = {"format": FORMAT, "version": __version__, _HAS_SUM: True}
            digesting = DigestingFile(file)
            torch.save({**head, **_encode(dict(state))}, cast(IO[bytes], digesting))
            digesting.write_comment()
    except (OSError, RuntimeError) as error:
        # torch's writer turns "no space left" into a RuntimeError of its own words.
        kept = "The previous checkpoint there is intact. " if path.exists() else ""
        raise OSError(
            f"cannot write checkpoint {path}: {error}. {kept}"
            f"Free some disk space or set --checkpoint_dir, then add --resume to continue."
        ) from error


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint with ``weights_only=True``.

    The content of a file without a checksum, from an older version, is taken as it is.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or not one of ours.
    """
    return from_main(lambda: _read_checkpoint(path, device))


def _read_checkpoint(path: Path, device: torch.device | str) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist.")
    try:
        has_sum = check_sum(path)
        state = torch.load(path, map_location=device, weights_only=True)
        is_ours = isinstance(state, dict) and state.get("format") == FORMAT
        if is_ours:
            state = _decode(state)
            if state.pop(_HAS_SUM, False) and not has_sum:
                raise ValueError("its checksum is cut off")
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"checkpoint {path} is damaged, or was written by RecBole itself, whose checkpoints "
            f"hold pickled code. Delete it and train again."
        ) from error
    except Exception as error:  # torch raises almost any kind for bytes that are no archive
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"checkpoint {path} is damaged ({reason}). Delete it and train again."
        ) from error
    if not is_ours:
        raise ValueError(f"{path} is not a checkpoint of recbole-llm (expected format {FORMAT!r}).")
    return dict(state)


def load_weights(
    model: nn.Module, path: Path, device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Load a model's weights from a checkpoint, and return all that the checkpoint holds.

    Raises:
        FileNotFoundError, ValueError: as ``load_checkpoint``.
        ValueError: the weights do not fit the model; the text says which version saved them.
    """
    state = load_checkpoint(path, device)
    check_fields(state, {"state_dict": dict, "other_parameter": dict}, path)
    try:
        model.load_state_dict(state["state_dict"])
    except (RuntimeError, TypeError, AttributeError) as error:
        # torch: a heading, then a line for each difference
        difference = str(error).splitlines()[-1].strip()
        raise ValueError(
            f"checkpoint {path}{saved_by(state)} does not fit this {type(model).__name__}: "
            f"{difference} Were the settings the same when it was saved?"
        ) from error
    own: Any = model
    unknown = sorted(set(state["other_parameter"]) - set(own.other_parameter()))
    if unknown:
        raise ValueError(
            f"checkpoint {path}{saved_by(state)} does not fit this {type(model).__name__}, which "
            f"has no {', '.join(map(str, unknown))}."
        )
    own.load_other_parameter(state["other_parameter"])
    return state


def check_fields(state: Mapping[str, Any], fields: Mapping[str, type], path: Path) -> None:
    """Check that a checkpoint's content has what its reader needs.

    Args:
        state: content of the checkpoint.
        fields: type by name.
        path: the checkpoint, for the message.

    Raises:
        ValueError: a field is missing or of another type.
    """
    for name, kind in fields.items():
        if name not in state:
            raise ValueError(
                f"checkpoint {path}{saved_by(state)} lacks {name!r}. Delete it and train again."
            )
        if not isinstance(state[name], kind):
            raise ValueError(
                f"checkpoint {path}{saved_by(state)}: {name!r} is of type "
                f"{type(state[name]).__name__}, expected {kind.__name__}. Delete it and train "
                f"again."
            )


def saved_by(state: Mapping[str, Any]) -> str:
    """Return `` (saved by recbole-llm 0.1.0)``, for an error about a checkpoint's content."""
    return f" (saved by recbole-llm {state.get('version', '0.1.0 or older')})"


def random_state() -> dict[str, Any]:
    """Return the state of every random generator that training draws from."""
    version, words, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=True)
    name, keys, *rest = legacy
    state: dict[str, Any] = {
        "python": json.dumps([version, words, gauss]),
        "numpy_keys": torch.from_numpy(keys.astype(np.int64)),
        "numpy_rest": json.dumps([name, *rest]),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put back what ``random_state`` returned."""
    version, words, gauss = json.loads(state["python"])
    random.setstate((version, tuple(words), gauss))
    name, *rest = json.loads(state["numpy_rest"])
    np.random.set_state((name, state["numpy_keys"].cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([part.cpu() for part in state["cuda"]])


def _encode(value: Any) -> Any:
    """Turn arrays and sparse matrices (RecBole's ItemKNN, EASE) into tagged tensors."""
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_encode(item) for item in value)
    if isinstance(value, np.matrix):
        return {"__array__": torch.from_numpy(np.asarray(value)), "matrix": True}
    if isinstance(value, np.ndarray):
        return {"__array__": torch.from_numpy(np.ascontiguousarray(value)), "matrix": False}
    if isinstance(value, np.generic):
        return value.item()
    if scipy.sparse.issparse(value):
        rows = value.tocsr()
        return {
            "__csr__": [torch.from_numpy(x) for x in (rows.data, rows.indices, rows.indptr)],
            "shape": list(rows.shape),
        }
    if value is None or isinstance(value, (Tensor, bool, int, float, str)):
        return value
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}.")


def _decode(value: Any) -> Any:
    if isinstance(value, dict) and "__array__" in value:
        array = value["__array__"].cpu().numpy()
        return np.asmatrix(array) if value["matrix"] else array
    if isinstance(value, dict) and "__csr__" in value:
        parts = tuple(part.cpu().numpy() for part in value["__csr__"])
        return scipy.sparse.csr_matrix(parts, shape=tuple(value["shape"]))
    if isinstance(value, dict):
        return {key: _decode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_decode(item) for item in value)
    return value
