"""What image encoders share: files are read side by side, and those that fail are reported."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_llm.encoders.images import BadImageError, read_image

if TYPE_CHECKING:
    from PIL.Image import Image


class ImageEncoder(ABC):
    """A frozen image encoder, in float32.

    Attributes:
        name: name that the user gave.
        device: device that computes.
        width: width of a vector.
    """

    name: str
    device: torch.device
    width: int

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """The settings that the vectors depend on, as JSON values."""

    @abstractmethod
    def prepare(self, image: Image) -> dict[str, Tensor]:
        """Return the model's inputs for one RGB image, as a batch of one.

        Raises:
            ValueError: the model takes no such image.
        """

    @abstractmethod
    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return (n, width) float32 for a batch of inputs."""

    def encode(self, batch: Sequence[Path]) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Encode image files.

        Args:
            batch: paths of image files.

        Returns:
            vectors: (n, width) float32 of the files that can be read, in order.
            failed: reasons of the others by index in the batch.

        Raises:
            ValueError: the model's inputs have different shapes in one batch.
        """
        inputs, failed = self.read(batch)
        if not inputs:
            return np.zeros((0, self.width), dtype=np.float32), failed
        return self.forward(inputs).cpu().numpy(), failed

    def read(self, batch: Sequence[Path]) -> tuple[dict[str, Tensor], dict[int, str]]:
        """Return the model's inputs for the files that can be read; none without any such file.

        Args:
            batch: paths of image files.

        Returns:
            inputs: one tensor (n, ...) a name.
            failed: reasons of the other files by index in the batch.

        Raises:
            ValueError: the model's inputs have different shapes in one batch.
        """
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            prepared = list(pool.map(self._prepare_file, batch))
        failed = {n: reason for n, reason in enumerate(prepared) if isinstance(reason, str)}
        inputs = [tensors for tensors in prepared if not isinstance(tensors, str)]
        try:
            keys = inputs[0] if inputs else {}
            joined = {key: torch.cat([one[key] for one in inputs]) for key in keys}
        except RuntimeError as error:
            raise ValueError(
                f"image encoder {self.name!r} takes images of different sizes one at a time: "
                f"give --batch_size=1 ({error})."
            ) from error
        return joined, failed

    def _prepare_file(self, path: Path) -> dict[str, Tensor] | str:
        """Return the model's inputs for an image, or the reason why it has none."""
        try:
            return self.prepare(read_image(path.read_bytes()))
        except BadImageError as error:
            return str(error)
        except OSError as error:
            return f"cannot be read: {error.strerror or type(error).__name__}"
        except ValueError as error:
            return f"refused by the image processor: {error}"
