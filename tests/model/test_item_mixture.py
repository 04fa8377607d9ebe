"""Weights of the modalities' item graphs; the graphs are tested with the models that use them."""

import pytest

from recbole_llm.model.item_mixture import share_weights


@pytest.mark.parametrize(
    ("given", "names", "expected"),
    [
        ({"image": 0.1}, ["image", "text"], [0.1, 0.9]),
        ({"image": 0.1}, ["text", "image"], [0.9, 0.1]),
        ({"image": 0.1}, ["image", "text", "audio"], [0.1, 0.45, 0.45]),
        ({}, ["image", "text"], [0.5, 0.5]),
        (None, ["image", "text"], [0.5, 0.5]),
        ({"image": 0.1}, ["image"], [1.0]),
        ({"image": 1, "text": 3}, ["image", "text"], [0.25, 0.75]),
        ({"image": 0.1}, ["text"], [1.0]),
        ({"image": 1.0}, ["image", "text"], [1.0, 0.0]),
        ({"image": 0}, ["image", "text"], [0.0, 1.0]),
    ],
)
def test_weights_of_modalities_add_up_to_one(given, names, expected):
    assert share_weights(given, names) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"image": -0.1}, ["image", "text"]),
        ({"image": 1.1}, ["image", "text"]),
        ({"image": 0.6, "text": 0.6}, ["image", "text", "audio"]),
        ({"image": 0.0, "text": 0.0}, ["image", "text"]),
        ({"image": 0.0}, ["image"]),
    ],
)
def test_bad_weights_of_modalities(given, names):
    with pytest.raises(ValueError, match="modality_weights"):
        share_weights(given, names)
