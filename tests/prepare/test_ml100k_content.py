"""Posters and plots for RecBole's ml-100k, from a folder of a few made-up ones."""

import csv
import re

import numpy as np
import pytest
import torch
import yaml
from shop import picture

from recbole_llm.config import Config
from recbole_llm.data.loading import load_split
from recbole_llm.encoders.efficientnet import LiteEncoder

pytestmark = pytest.mark.llm

ROWS = [
    ("1", "Toy Story (1995)", "Animation Children Comedy", 'Toys live, and one is "new".'),
    ("3", "Four Rooms (1995)", "Thriller", ""),
    ("50", "Star Wars (1977)", "Action Sci-Fi", "A farm boy, a princess, and a pilot."),
]


@pytest.fixture
def content(tmp_path):
    """A folder with three movies, two of them with an image, and images of no movie."""
    folder = tmp_path / "content"
    (folder / "images").mkdir(parents=True)
    write_items(folder, ROWS)
    for name, seed in (("1.jpg", 1), ("50.png", 2), ("9999.jpg", 3)):
        picture(seed).save(folder / "images" / name)
    (folder / "images" / "3.jpg").write_bytes(b"junk")
    return folder


def write_items(folder, rows, header=("item_id", "title", "genres", "plot")):
    with (folder / "items.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def test_dataset_has_recboles_ratings_text_and_images(builder, content, tmp_path):
    builder("ml-100k-content", f"--path={content}")
    folder = builder.data_path / "ml-100k-mm"
    ratings = builder.table("ml-100k-mm")
    assert len(ratings) == 100_000 and ratings.user_id.nunique() == 943
    items = builder.table("ml-100k-mm", "item").set_index("item_id")
    assert len(items) == 1682
    assert items.loc["1"].tolist() == [
        "Toy Story (1995)",
        "Animation Children Comedy",
        "Toys live, and one is ''new''.",
    ]
    tokens = (folder / "item_ids.txt").read_text().split()
    feature = np.load(folder / "image_feat.npy")
    assert feature.shape == (1682, 1280)
    encoder = LiteEncoder("auto", torch.device("cpu"))
    for item, name in (("1", "1.jpg"), ("50", "50.png")):
        vectors, _ = encoder.encode([content / "images" / name])
        np.testing.assert_allclose(feature[tokens.index(item)], vectors[0], atol=1e-4)
    assert feature.any(axis=1).sum() == 2  # the third image is broken

    settings = yaml.safe_load((folder / "dataset.yaml").read_text())
    assert settings["modality_scaling"] == "standard"
    assert settings["modalities"] == {
        "image": "image_feat.npy",
        "text": {"text": ["title", "genres", "plot"], "encoder": "all-minilm-l6-v2"},
    }
    config = Config("VBPR", "ml-100k-mm", command_line={"data_path": str(builder.data_path)})
    image = load_split(config).dataset.modality("image")
    described = image[image.any(dim=1)]
    torch.testing.assert_close(described.mean(dim=0), torch.zeros(1280), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("1", "GoldenEye (1995)", "Action", ""), *ROWS[1:]],
            r"1 of 3 titles are others there \(first: item_id '1' is 'GoldenEye \(1995\)', ml-100k "
            r"has 'Toy Story'\)",
        ),
        ([("tt01", "Toy Story (1995)", "", "")], "ml-100k has 'no such movie'"),
        ([], "0 of 0 titles"),
    ],
)
def test_ids_of_another_catalogue_are_refused(builder, content, rows, message):
    write_items(content, rows)
    error = builder.fails("ml-100k-content", f"--path={content}")
    assert re.search(message, error)


def test_missing_columns_and_images_are_named(builder, content):
    write_items(content, [], header=("item_id", "title"))
    error = builder.fails("ml-100k-content", f"--path={content}")
    assert "it lacks genres, plot" in error
    write_items(content, ROWS)
    for path in (content / "images").iterdir():
        path.unlink()
    assert "has no file <item_id>" in builder.fails("ml-100k-content", f"--path={content}")
    (content / "images").rmdir()
    assert "images is not a folder" in builder.fails("ml-100k-content", f"--path={content}")
    assert "does not exist" in builder.fails("ml-100k-content", "--path=nowhere")
