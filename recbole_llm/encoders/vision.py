"""Vision models of transformers as image encoders: CLIP and its like, ViT, DINO, ResNet, ..."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recbole_llm.encoders.hub import find_snapshot, quiet
from recbole_llm.encoders.image_batches import ImageEncoder
from recbole_llm.encoders.text import encoder_version

if TYPE_CHECKING:
    from PIL.Image import Image

_CLASS_TOKEN = re.compile(r"(?:^|[._])(?:cls_token|class_token|class_embedding)$")


class VisionEncoder(ImageEncoder):
    """A frozen vision model with its image processor, in float32.

    ``pooling`` decides what an image's vector is:

    - ``projected``: output of ``get_image_features``, the image in the space shared with text
      (CLIP, SigLIP);
    - ``pooler``: the vision model's pooled output (ViT, DINOv2, ResNet);
    - ``cls``: the class token of the last hidden state;
    - ``mean``: the mean of the last hidden state over all its positions;
    - ``auto``: the first of these that the model has. A pooler whose weights are not in the
      checkpoint (DINO's and MAE's ViT) would be random, and is left out.

    Args:
        name: local folder or Hugging Face id.
        revision: branch, tag or commit of an id.
        pooling: name of a pooling in the list above.
        device: device that computes.

    Attributes:
        width: width of a vector.

    Raises:
        FileNotFoundError: the model does not exist.
        OSError: the model cannot be loaded as a vision model, or lacks weights.
        ValueError: the model has no such pooling, or encodes the same image differently each time.
    """

    def __init__(self, name: str, revision: str | None, pooling: str, device: torch.device) -> None:
        from PIL.Image import new

        self.name, self.device = name, device
        folder, self.version = _find(name, revision)
        self._model, self._processor, no_weights = _load(name, folder)
        self._model.to(device).eval().requires_grad_(False)
        self._tower = getattr(self._model, "vision_model", self._model)
        sample = self.prepare(new("RGB", (64, 48), "teal"))
        self._sample = {key: tensor.to(device) for key, tensor in sample.items()}
        self.pooling = self._choose(pooling, has_pooler=not no_weights)
        first, second = self.forward(self._sample), self.forward(self._sample)
        if not torch.equal(first, second):
            raise ValueError(
                f"image encoder {name!r} gives the same image another vector each time (does it "
                f"mask patches at random?). Use a model that does not."
            )
        self.width = first.size(1)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that the vectors depend on, as JSON values."""
        return {
            "encoder": self.name,
            "version": self.version,
            "model_type": self._model.config.model_type,
            "image_processor": type(self._processor).__name__,
            "pooling": self.pooling,
            "normalized": False,
            "width": self.width,
        }

    def prepare(self, image: Image) -> dict[str, Tensor]:
        """Return what the image processor makes of an image."""
        return dict(self._processor(images=[image], return_tensors="pt"))

    @torch.inference_mode()
    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return (n, width) float32.

        Raises:
            ValueError: the pooling gives no vectors.
        """
        inputs = {key: tensor.to(self.device) for key, tensor in inputs.items()}
        if self.pooling == "projected":
            output = self._model.get_image_features(**inputs)
            vectors = output if isinstance(output, Tensor) else output.pooler_output
        else:
            output = self._tower(**inputs)
            vectors = _pool(output, self.pooling)
        if vectors.dim() != 2:
            raise ValueError(
                f"image encoder {self.name!r} gives {self.pooling} features of shape "
                f"{tuple(vectors.shape)}, expected (images, width). Try --pooling=mean."
            )
        return vectors.float()

    def _choose(self, pooling: str, has_pooler: bool) -> str:
        with torch.inference_mode():
            output = self._tower(**self._sample)
        names = [name for name, _ in self._tower.named_parameters()]
        is_available = {
            "projected": hasattr(self._model, "get_image_features"),
            "pooler": has_pooler and getattr(output, "pooler_output", None) is not None,
            "cls": any(map(_CLASS_TOKEN.search, names)),
            "mean": getattr(output, "last_hidden_state", None) is not None,
        }
        choices = [name for name, available in is_available.items() if available]
        if not choices or pooling not in ("auto", *choices):
            raise ValueError(
                f"image encoder {self.name!r} (a {self._model.config.model_type!r} model) has no "
                f"--pooling={pooling}, it has: {', '.join(choices) or 'none'}."
            )
        return choices[0] if pooling == "auto" else pooling


def _pool(output: Any, pooling: str) -> Tensor:
    if pooling == "pooler":
        return output.pooler_output.flatten(1)  # convolutional models give (n, width, 1, 1)
    hidden = output.last_hidden_state  # (n, positions, width) or (n, width, rows, columns)
    if pooling == "cls":
        return hidden[:, 0]
    return hidden.mean(1) if hidden.dim() == 3 else hidden.flatten(2).mean(2)


def _find(name: str, revision: str | None) -> tuple[Path, str]:
    """Return the model's folder, and a text that changes when the model does."""
    folder = Path(name)
    if folder.is_dir():
        return folder, encoder_version(name)
    try:
        return find_snapshot(name, revision)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"image encoder {name!r} is not a folder ({folder.absolute()}); as a Hugging Face id: "
            f"{error}"
        ) from error


def _load(name: str, folder: Path) -> tuple[Any, Any, bool]:
    """Return the model, its image processor, and whether the weights of its pooler are missing."""
    from transformers import AutoImageProcessor, AutoModel

    try:
        # PIL's, which needs no torchvision: the same numbers whether that is installed or not
        processor = AutoImageProcessor.from_pretrained(
            str(folder), backend="pil", local_files_only=True
        )
        with quiet():
            model, info = AutoModel.from_pretrained(
                str(folder), local_files_only=True, output_loading_info=True, dtype=torch.float32
            )
    except Exception as error:  # JSON, safetensors and transformers' errors share no base
        raise OSError(
            f"image encoder {name!r} cannot be loaded as a vision model of transformers: {error}"
        ) from error
    missing = sorted(info["missing_keys"])
    others = [key for key in missing if "pooler" not in key]
    if others:
        raise OSError(
            f"image encoder {name!r}: {len(others)} weights are missing, among them {others[0]}."
        )
    return model, processor, bool(missing)
