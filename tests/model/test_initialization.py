"""Initial weights: which layers start as Xavier's, which as torch's."""

import pytest
import torch
from torch import nn

from recbole_llm.model.initialization import initialize

WIDTH, OUT, ROWS = 400, 100, 50


def bound(values):
    return values.abs().max().item()


@pytest.mark.parametrize(
    ("choice", "linear", "bias"),
    [
        ("xavier", (6 / (WIDTH + OUT)) ** 0.5, 0.0),
        ("torch", WIDTH**-0.5, WIDTH**-0.5),
        ("torch_bias", (6 / (WIDTH + OUT)) ** 0.5, WIDTH**-0.5),
    ],
)
def test_bounds_of_the_uniform_distributions(choice, linear, bias):
    torch.manual_seed(0)
    model = nn.ModuleDict({"table": nn.Embedding(ROWS, OUT), "layer": nn.Linear(WIDTH, OUT)})
    initialize(model, choice)
    assert bound(model["table"].weight) == pytest.approx((6 / (ROWS + OUT)) ** 0.5, rel=0.01)
    assert bound(model["layer"].weight) == pytest.approx(linear, rel=0.01)
    assert bound(model["layer"].bias) == pytest.approx(bias, rel=0.1)
