"""A language model without its weights, to see what it lacks before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from recbole_llm.encoders.hub import quiet
from recbole_llm.llm.backbone import read_config
from recbole_llm.llm.model_files import check_model, find_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Skeleton(NamedTuple):
    """A trunk on torch's meta device: all layers and their shapes, and no weights.

    Attributes:
        model: trunk with frozen parameters.
        folder: folder or Hugging Face id that it is read from.
        revision: branch, tag or commit of the id.
    """

    model: PreTrainedModel
    folder: str
    revision: str | None

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the model's tokenizer."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder, revision=self.revision)


def build_skeleton(
    llm_path: str,
    *,
    revision: str | None = None,
    num_layers: int | None = None,
    encoder_decoder: bool = False,
    cache_dir: str | Path = "saved/cache",
) -> Skeleton:
    """Build a trunk from its config alone, in half a second for 7 billion weights.

    Args:
        llm_path: alias ``smollm2-135m``, a ``.gguf`` file, a folder or a Hugging Face id.
        revision: branch, tag or commit of a Hugging Face id.
        num_layers: number of first layers to keep; None keeps all.
        encoder_decoder: whether encoder-decoders of the T5 family are accepted as well as decoders.
        cache_dir: folder in which a converted GGUF file is kept; the file is converted if it was
            not yet, which takes half a minute.

    Raises:
        ValueError, OSError, ImportError: as ``load_backbone``, but for damaged weights.
    """
    from transformers import AutoModel

    check_model(llm_path, revision)
    folder = find_model(llm_path, revision, cache_dir).folder
    try:
        config = read_config(folder, revision, num_layers, llm_path, encoder_decoder)
        with torch.device("meta"), quiet():
            model = AutoModel.from_config(config)
    except (ValueError, ImportError):
        raise
    except Exception as error:  # a model's own code raises whatever a wrong config leads it to
        raise OSError(f"llm_path={llm_path!r} cannot be loaded: {error}") from error
    model.requires_grad_(False)
    return Skeleton(model, folder, revision)
