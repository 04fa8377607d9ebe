"""Hugging Face ids: their files on this machine, downloaded only if they are missing."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

# The same weights for other frameworks, which a repository often holds next to those for PyTorch.
_NOT_FOR_TORCH = (
    "*.h5 *.msgpack *.onnx *.onnx_data *.ot *.tflite *.gguf onnx/* openvino/* coreml/*".split()
)


class Snapshot(NamedTuple):
    """A repository's files at one commit.

    Attributes:
        folder: folder that holds the files.
        commit: name of the commit, 40 hexadecimal digits.
    """

    folder: Path
    commit: str


def find_snapshot(name: str, revision: str | None = None) -> Snapshot:
    """Return the local copy of a Hugging Face repository; download it if there is none.

    Args:
        name: id of the repository, such as ``openai/clip-vit-base-patch32``.
        revision: branch, tag or commit; None is the main branch as it was when it was downloaded.

    Raises:
        FileNotFoundError: the repository is not on this machine and could not be downloaded.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:  # first without the network, whose retries take a minute when there is none
        folder = snapshot_download(name, revision=revision, local_files_only=True)
    except FileNotFoundError:
        logging.getLogger().info("%r is not on this machine: downloading.", name)
        try:
            folder = snapshot_download(name, revision=revision, ignore_patterns=_NOT_FOR_TORCH)
        except (OSError, ValueError, HfHubHTTPError) as error:
            version = f" (revision {revision})" if revision else ""
            raise FileNotFoundError(
                f"{name!r}{version} is not in the local Hugging Face cache, and could not be "
                f"downloaded: {error}"
            ) from error
    except HFValidationError as error:
        raise FileNotFoundError(f"{name!r} is not a Hugging Face id: {error}") from error
    return Snapshot(Path(folder), Path(folder).name)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the loading reports and progress bars of transformers and sentence-transformers."""
    from transformers.utils import logging as hf_logging

    sentences = logging.getLogger("sentence_transformers")
    levels = hf_logging.get_verbosity(), sentences.level
    bars = hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    sentences.setLevel(logging.WARNING)
    try:
        yield
    finally:
        hf_logging.set_verbosity(levels[0])
        sentences.setLevel(levels[1])
        if bars:
            hf_logging.enable_progress_bar()
