import gzip
import json

import numpy as np
import pandas as pd
import pytest
import yaml
from file_server import FileServer
from raw_files import asin, events, gz_lines, image_records, metadata_2014, reviews

from recbole_llm.prepare.sources.amazon2018 import Amazon2018
from recbole_llm.prepare.sources.amazon2023 import Amazon2023


def test_reviews_become_interactions_by_user_and_time(builder, shop):
    builder(*shop.arguments)
    found = builder.table("sports")
    expected = pd.DataFrame(events(), columns=["user_id", "item_id", "rating", "timestamp"])
    order = list(dict.fromkeys(expected["user_id"]))  # users by first appearance
    expected["place"] = expected["user_id"].map(order.index)
    expected = expected.sort_values(["place", "timestamp"], kind="stable").drop(columns="place")
    pd.testing.assert_frame_equal(found, expected.reset_index(drop=True), check_dtype=False)


def test_metadata_in_both_notations_become_items(builder, shop):
    builder(*shop.arguments)
    items = builder.table("sports", "item")
    tokens = (builder.data_path / "sports" / "item_ids.txt").read_text().split()
    assert list(items["item_id"]) == tokens == sorted(tokens, reverse=True)  # the source's order
    assert set(tokens) == set(builder.table("sports")["item_id"])
    first, second = items.iloc[0], items.iloc[1]
    assert first["title"] == "" and second["title"] == "''Girls'' Ballet Tutu 1"
    assert second["categories"] == "Sports_&_Outdoors Water_Sports Dance"
    assert second["description"] == "Tom's 5'' knife & sheath, black or green"
    assert second["brand"] == "Coxlures" and second["price"] == 4.17
    assert second["image_url"].endswith(f"{second['item_id']}.jpg")


def test_image_features_have_the_rows_of_their_items(builder, shop):
    builder(*shop.arguments, "--image_features")
    folder = builder.data_path / "sports"
    tokens = (folder / "item_ids.txt").read_text().split()
    features = np.load(folder / "image_feat.npy", allow_pickle=False)
    assert features.dtype == np.float32 and features.shape == (len(tokens), 4096)
    for token, row in zip(tokens, features, strict=True):
        assert np.array_equal(row, shop.image_rows.get(token, np.zeros(4096)))
    note = builder.manifest("sports")["features"]["image_feat.npy"]
    assert note["items_without"] == 1 and note["not_finite"] == 0
    settings = yaml.safe_load((folder / "dataset.yaml").read_text())
    assert settings["modalities"]["image"] == "image_feat.npy"


def test_of_an_item_with_two_feature_records_the_first_counts(builder, shop):
    path = shop.path("image")
    again, _ = image_records(list(shop.image_rows), seed=1)
    shop.server.files[path] += again
    builder(*shop.arguments, "--image_features")
    tokens = (builder.data_path / "sports" / "item_ids.txt").read_text().split()
    features = np.load(builder.data_path / "sports" / "image_feat.npy", allow_pickle=False)
    assert np.array_equal(features[-1], shop.image_rows[tokens[-1]])


def test_truncated_image_features_are_named(builder, shop):
    path = shop.path("image")
    shop.server.files[path] = shop.server.files[path][:-7]
    message = builder.fails(*shop.arguments, "--image_features")
    assert "image_features_Sports_and_Outdoors.b is truncated" in message


def test_nan_in_features_is_no_feature(builder, shop):
    content = bytearray(shop.server.files[shop.path("image")])
    content[10:14] = np.float32(np.nan).tobytes()
    shop.server.files[shop.path("image")] = bytes(content)
    builder(*shop.arguments, "--image_features")
    note = builder.manifest("sports")["features"]["image_feat.npy"]
    assert (note["items_without"], note["not_finite"]) == (2, 1)
    assert np.isfinite(np.load(builder.data_path / "sports" / "image_feat.npy")).all()


def test_malformed_lines_are_skipped_and_named(builder, shop):
    rows = reviews(events())
    rows.insert(3, '{"reviewerID": "A", "asin": ')
    rows.insert(5, '{"reviewerID": "A", "overall": 5.0, "unixReviewTime": 1}')
    rows.insert(6, json.dumps({"reviewerID": "", "asin": "B", "overall": 1, "unixReviewTime": 1}))
    rows.insert(9, "")
    shop.server.publish(shop.address("reviews"), gz_lines(rows))
    assert "3 of 111 lines are malformed, more than 2%" in builder.fails(*shop.arguments)
    builder(*shop.arguments, "--allow_malformed")
    note = builder.manifest("sports")["lines"]["reviews_Sports_and_Outdoors_5.json.gz"]
    assert (note["read"], note["malformed"]) == (111, 3)
    assert note["first_malformed"] == [4, 6, 7]
    assert "malformed, skipped (first: 4, 6, 7" in builder.out
    assert len(builder.table("sports")) == 108


def test_code_in_metadata_is_not_run(builder, shop, tmp_path):
    trap = tmp_path / "trap"
    lines = metadata_2014(sorted({item for _, item, _, _ in events()}))
    lines[0] = f"{{'asin': '{asin(0)}', 'title': open({str(trap)!r}, 'w')}}"
    shop.server.publish(shop.address("metadata"), gz_lines(lines))
    assert "of 12 lines are malformed" in builder.fails(*shop.arguments)
    builder(*shop.arguments, "--allow_malformed")
    assert not trap.exists()
    note = builder.manifest("sports")["lines"]["meta_Sports_and_Outdoors.json.gz"]
    assert note["first_malformed"] == [1]
    assert asin(0) in set(builder.table("sports", "item")["item_id"])  # with empty cells


def test_unknown_category(builder):
    message = builder.fails("amazon2014", "--category=Sport_and_Outdoor")
    assert "Did you mean 'Sports_and_Outdoors'?" in message


def test_2018(builder, server: FileServer):
    addresses = {role: url.format("Gift_Cards") for role, url in Amazon2018.addresses.items()}
    server.publish(addresses["reviews"], gz_lines(reviews(events())))
    item = {
        "asin": asin(3),
        "title": "Card",
        "brand": "Amazon",
        "category": ["Gift Cards", "Gift Cards"],
        "description": ["One.", "Two."],
        "price": "$1,025.50",
        "imageURLHighRes": ["https://images/3.jpg", "https://images/4.jpg"],
    }
    server.publish(addresses["metadata"], gz_lines([json.dumps(item)]))
    builder("amazon2018", "--category=Gift_Cards", f"--mirror={server.url}")
    name = "amazon2018-gift-cards"
    assert len(builder.table(name)) == 108
    row = builder.table(name, "item").set_index("item_id").loc[asin(3)]
    assert list(row) == [
        "Card",
        "Amazon",
        "Gift_Cards",
        "One. Two.",
        1025.5,
        "https://images/3.jpg",
    ]
    assert builder.manifest(name)["statistics"]["items_described"] == 1


def test_2023(builder, server: FileServer):
    addresses = {role: url.format("All_Beauty") for role, url in Amazon2023.addresses.items()}
    lines = [
        json.dumps(
            {
                "rating": rating,
                "title": "t",
                "text": "x",
                "images": [],
                "asin": "variant",
                "parent_asin": item,
                "user_id": user,
                "timestamp": time * 1000 + 123,
                "helpful_vote": 0,
                "verified_purchase": True,
            }
        )
        for user, item, rating, time in events()
    ]
    server.publish(addresses["reviews"], gz_lines(lines))
    item = {
        "main_category": "All Beauty",
        "parent_asin": asin(3),
        "title": "Soap",
        "store": "Pure",
        "categories": [],
        "description": [],
        "price": None,
        "images": [{"thumb": "t", "large": "https://images/3.jpg", "hi_res": None}],
    }
    server.publish(addresses["metadata"], gz_lines([json.dumps(item)]))
    builder("amazon2023", "--category=All_Beauty", f"--mirror={server.url}")
    found = builder.table("amazon2023-all-beauty")
    assert sorted(found["timestamp"]) == sorted(time + 0.123 for *_, time in events())
    row = builder.table("amazon2023-all-beauty", "item").set_index("item_id").loc[asin(3)]
    assert (row["title"], row["brand"], row["image_url"]) == (
        "Soap",
        "Pure",
        "https://images/3.jpg",
    )
    assert np.isnan(row["price"])


@pytest.mark.parametrize(
    "text", ["reviews_Sports_and_Outdoors_5.json", "meta_Sports_and_Outdoors.json"]
)
def test_files_put_there_by_hand_may_be_decompressed(builder, shop, tmp_path, text):
    raw = tmp_path / "mine"
    raw.mkdir()
    for role in ("reviews", "metadata"):
        name = shop.address(role).rpartition("/")[2]
        content = shop.server.files[shop.path(role)]
        plain = name.removesuffix(".gz")
        (raw / (plain if plain == text else name)).write_bytes(
            gzip.decompress(content) if plain == text else content
        )
    builder("amazon2014", "--category=Sports_and_Outdoors", f"--raw-dir={raw}")
    assert len(builder.table("sports")) == 108 and not shop.server.asked
    notes = builder.manifest("sports")["raw_files"]
    assert [note["fetched_from"] for note in notes] == [None, None]
    assert [note["address"] for note in notes] == [
        shop.address("reviews"),
        shop.address("metadata"),
    ]
