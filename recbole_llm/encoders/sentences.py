"""Sentence encoders in batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_llm.encoders.hub import find_snapshot, quiet
from recbole_llm.encoders.text import ALIASES, encoder_version, load_encoder, unit_vectors


class SentenceEncoder:
    """A frozen sentence-transformers model; vectors have length 1.

    Args:
        name: alias, local folder or Hugging Face id.
        revision: branch, tag or commit of an id.
        device: device that computes.

    Attributes:
        width: width of a vector.

    Raises:
        ImportError: the package of an alias, or sentence-transformers, is not installed.
        FileNotFoundError: the encoder does not exist.
    """

    def __init__(self, name: str, revision: str | None, device: torch.device) -> None:
        self.name = name
        with quiet():
            self._model = load_encoder(name, revision, str(device))
        is_local = name in ALIASES or Path(name).is_dir()
        self.version = encoder_version(name) if is_local else find_snapshot(name, revision).commit
        self.width = int(self._model.get_embedding_dimension() or 0)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that the vectors depend on, as JSON values."""
        poolings = [getattr(module, "pooling_mode", None) for module in self._model]
        prompt = self._model.prompts.get(self._model.default_prompt_name or "")
        return {
            "encoder": self.name,
            "version": self.version,
            "pooling": next((str(name) for name in poolings if name), None),
            "prompt": prompt,
            "max_seq_length": self._model.max_seq_length,
            "normalized": True,
            "width": self.width,
        }

    def encode(self, batch: Sequence[str]) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Encode texts; return unit vectors (n, width), float32, and an empty dict of failures."""
        return unit_vectors(self._model, list(batch), len(batch), show_progress=False), {}
