import csv
import json

import numpy as np
import pandas as pd
import pytest
import yaml
from raw_files import events, npy, tarred, zipped

from recbole_llm.prepare.sources.microlens import MicroLens
from recbole_llm.prepare.sources.movielens import MovieLens

YELP = {
    "review": "yelp_academic_dataset_review.json",
    "business": "yelp_academic_dataset_business.json",
}


def expected(rows):
    """The rows as a set of user, item, rating, time."""
    return {(user, item, rating, float(time)) for user, item, rating, time in rows}


def written(table):
    return {
        (user, item, float(rating), float(time))
        for user, item, rating, time in table.itertuples(index=False)
    }


# -- Yelp


def yelp_files(rows):
    reviews = [
        {
            "review_id": "r",
            "user_id": user,
            "business_id": item,
            "stars": rating,
            "text": "good\nfood",
            "date": pd.Timestamp(time, unit="s").strftime("%Y-%m-%d %H:%M:%S"),
        }
        for user, item, rating, time in rows
    ]
    items = sorted({item for _, item, _, _ in rows})
    businesses = [
        {
            "business_id": item,
            "name": f'Café "Bar" {item}',
            "city": "Santa Ana",
            "state": "CA",
            "categories": "Nail Salons, Beauty & Spas" if number else None,
        }
        for number, item in enumerate([*items, "elsewhere"])
    ]
    return {
        YELP[name]: "".join(json.dumps(line) + "\n" for line in lines)
        for name, lines in (("review", reviews), ("business", businesses))
    }


@pytest.mark.parametrize("form", ["tar", "tgz", "json"])
def test_yelp(builder, tmp_path, form):
    rows = events()
    repeats = [*rows, *rows[:4], ("U000", rows[0][1], 1.0, 1_500_000_000)]  # the last is of 2017
    raw = tmp_path / "raw"
    raw.mkdir()
    if form == "json":
        for name, text in yelp_files(repeats).items():
            (raw / name).write_text(text)
    else:
        content = tarred(yelp_files(repeats), "w:gz" if form == "tgz" else "w")
        (raw / "yelp_dataset.tar").write_bytes(content)
    builder("yelp", f"--raw_dir={raw}")
    found = builder.table("yelp")
    assert len(found) == len(rows) + 4  # repeats are kept, 2017 is not
    assert written(found) == expected(rows)
    assert builder.manifest("yelp")["steps"]["before_since"] == 1
    items = builder.table("yelp", "item").set_index("item_id")
    assert items.iloc[0]["categories"] == ""
    assert items.iloc[1]["categories"] == "Nail_Salons Beauty_&_Spas"
    assert items.iloc[1]["title"] == f"Café ''Bar'' {items.index[1]}"
    assert "GAL-Rec, Table II" in builder.out and "release of 2020" in builder.out


def test_yelp_must_be_fetched_by_hand(builder):
    message = builder.fails("yelp")
    assert "its licence has to be accepted in a form there" in message
    assert "https://business.yelp.com" in message
    assert f"-> {builder.data_path / 'raw' / 'yelp' / 'yelp_dataset.tar'}" in message


def test_an_archive_without_the_reviews(builder, tmp_path):
    (tmp_path / "yelp_dataset.tar").write_bytes(tarred({"other.json": "{}"}))
    message = builder.fails("yelp", f"--raw_dir={tmp_path}")
    assert "holds no yelp_academic_dataset_review.json, it holds: other.json" in message


def test_a_truncated_archive(builder, tmp_path):
    content = tarred(yelp_files(events()), "w:gz")
    (tmp_path / "yelp_dataset.tar").write_bytes(content[: len(content) // 2])
    assert "is truncated or damaged" in builder.fails("yelp", f"--raw_dir={tmp_path}")


# -- MovieLens


def movielens(size):
    rows = [
        (user.lstrip("U0") or "999", item.lstrip("B0") or "88", r, t)
        for user, item, r, t in events()
    ]
    movies = sorted({item for _, item, _, _ in rows}, key=int)
    if size == "100k":
        flags = "0|1|1" + "|0" * 16
        files = {
            "ml-100k/u.data": "".join(f"{u}\t{i}\t{int(r)}\t{t}\n" for u, i, r, t in rows),
            "ml-100k/u.item": "".join(
                f"{movie}|Amélie (1995)|01-Jan-1995||http://x|{flags}\n" for movie in movies
            ).encode("latin-1"),
        }
    elif size == "1m":
        files = {
            "ml-1m/ratings.dat": "".join(f"{u}::{i}::{int(r)}::{t}\n" for u, i, r, t in rows),
            "ml-1m/movies.dat": "".join(
                f"{movie}::Amélie (1995)::Action|Adventure\n" for movie in movies
            ).encode("latin-1"),
        }
    else:
        files = {
            "ml-20m/ratings.csv": "userId,movieId,rating,timestamp\n"
            + "".join(f"{u},{i},{r - 0.5},{t}\n" for u, i, r, t in rows),
            "ml-20m/movies.csv": "movieId,title,genres\n"
            + "".join(f'{movie},"Amélie (1995)",Action|Adventure\n' for movie in movies),
        }
        rows = [(user, item, rating - 0.5, time) for user, item, rating, time in rows]
    return rows, zipped(files)


@pytest.mark.parametrize("size", ["100k", "1m", "20m"])
def test_movielens(builder, server, size):
    rows, content = movielens(size)
    server.publish(MovieLens.addresses["archive"].format(size), content)
    builder("movielens", f"--size={size}", f"--mirror={server.url}")
    name = f"ml-{size}"
    assert written(builder.table(name)) == expected(rows)
    items = builder.table(name, "item")
    assert set(items["title"]) == {"Amélie (1995)"}
    assert set(items["genres"]) == {"Action Adventure"}
    assert "published (GroupLens)" in builder.out
    settings = yaml.safe_load((builder.data_path / name / "dataset.yaml").read_text())
    assert settings["modalities"]["genre"] == {"multi_hot": "genres"}


# -- MicroLens


def microlens(server, n_videos=14):
    rows = [(user[1:], str(int(item[1:]) + 1), 0.0, time) for user, item, _, time in events()]
    pairs = "user,item,timestamp\n" + "".join(f"{u},{i},{t * 1000 + 5}\n" for u, i, _, t in rows)
    titles = "".join(f"{video},A title, with commas {video}\n" for video in range(1, n_videos + 1))
    rng = np.random.default_rng(0)
    features = {
        name: rng.random((n_videos, width), dtype=np.float32)
        for name, width in (("image", 6), ("text", 5), ("video", 4))
    }
    addresses = MicroLens.addresses
    server.publish(addresses["pairs"], pairs.encode())
    server.publish(addresses["titles"], titles.encode())
    for name, array in features.items():
        server.publish(addresses[name], npy(array))
    return rows, features


def test_microlens(builder, server):
    rows, features = microlens(server)
    builder("microlens", f"--mirror={server.url}", "--image_features")
    found = builder.table("microlens")
    assert {(u, i, t) for u, i, t in found.itertuples(index=False)} == {
        (user, item, time + 0.005) for user, item, _, time in rows
    }
    items = builder.table("microlens", "item").set_index("item_id")
    assert items.loc["3", "title"] == "A title, with commas 3"
    tokens = (builder.data_path / "microlens" / "item_ids.txt").read_text().split()
    for name, array in features.items():
        feature = np.load(builder.data_path / "microlens" / f"{name}_feat.npy")
        assert np.array_equal(feature, array[[int(token) - 1 for token in tokens]])
    settings = yaml.safe_load((builder.data_path / "microlens" / "dataset.yaml").read_text())
    assert settings["modalities"] == {it: f"{it}_feat.npy" for it in ("image", "text", "video")}


def test_microlens_needs_no_features(builder, server):
    microlens(server)
    builder("microlens", f"--mirror={server.url}")
    assert not list((builder.data_path / "microlens").glob("*.npy"))
    assert len(server.asked) == 2


# -- MMRec's toolbox


@pytest.fixture
def toolbox(tmp_path):
    """Write a folder of the toolbox; returns it and what is in it."""
    folder = tmp_path / "mmrec" / "baby"
    folder.mkdir(parents=True)
    rows = events()
    users = list(dict.fromkeys(row[0] for row in rows))
    items = list(dict.fromkeys(row[1] for row in rows))
    frame = pd.DataFrame(rows, columns=["userID", "itemID", "rating", "timestamp"])
    frame["userID"] = frame["userID"].map(users.index)
    frame["itemID"] = frame["itemID"].map(items.index)
    frame["x_label"] = [0, 0, 0, 0, 1, 2] * (len(frame) // 6)
    frame.to_csv(folder / "baby.inter", sep="\t", index=False)
    for name, column, tokens in (("u", "user_id", users), ("i", "asin", items)):
        table = pd.DataFrame({column: tokens, f"{column[0]}ID": range(len(tokens))})
        table.to_csv(folder / f"{name}_id_mapping.csv", sep="\t", index=False)
    rng = np.random.default_rng(0)
    features = {name: rng.random((len(items), 7)) for name in ("image", "text")}
    for name, array in features.items():
        np.save(folder / f"{name}_feat.npy", array)
    return folder, rows, frame, items, features


def test_toolbox_keeps_split_features_and_original_identifiers(builder, toolbox):
    folder, rows, frame, items, features = toolbox
    builder("mmrec", f"--path={folder}")
    for part, label in (("train", 0), ("valid", 1), ("test", 2)):
        mine = [row for row, it in zip(rows, frame["x_label"], strict=True) if it == label]
        assert written(builder.table("baby", f"{part}.inter")) == expected(mine)
    tokens = (builder.data_path / "baby" / "item_ids.txt").read_text().split()
    for name, array in features.items():
        feature = np.load(builder.data_path / "baby" / f"{name}_feat.npy")
        assert feature.dtype == np.float64
        assert np.array_equal(feature, array[[items.index(token) for token in tokens]])
    settings = yaml.safe_load((builder.data_path / "baby" / "dataset.yaml").read_text())
    assert settings["benchmark_filename"] == ["train", "valid", "test"]
    assert settings["modalities"] == {"image": "image_feat.npy", "text": "text_feat.npy"}


def test_toolbox_without_maps_keeps_its_numbers(builder, toolbox):
    folder, _, frame, _, features = toolbox
    for path in folder.glob("*_mapping.csv"):
        path.unlink()
    builder("mmrec", f"--path={folder}", "--name=baby-mmrec")
    parts = [builder.table("baby-mmrec", f"{it}.inter") for it in ("train", "valid", "test")]
    found = {(int(u), int(i)) for u, i in pd.concat(parts)[["user_id", "item_id"]].to_numpy()}
    assert found == set(zip(frame["userID"], frame["itemID"], strict=True))
    tokens = (builder.data_path / "baby-mmrec" / "item_ids.txt").read_text().split()
    feature = np.load(builder.data_path / "baby-mmrec" / "image_feat.npy")
    assert np.array_equal(feature, features["image"][list(map(int, tokens))])


def test_toolbox_errors(builder, toolbox, tmp_path):
    folder, _, frame, *_ = toolbox
    assert "must hold one .inter file" in builder.fails("mmrec", f"--path={tmp_path / 'mmrec'}")
    frame.assign(x_label=0).to_csv(folder / "baby.inter", sep="\t", index=False)
    assert "the valid part of baby has no interaction" in builder.fails("mmrec", f"--path={folder}")
    frame.drop(columns="x_label").to_csv(folder / "baby.inter", sep="\t", index=False)
    assert "expected the toolbox's: userID, itemID, x_label" in builder.fails(
        "mmrec", f"--path={folder}"
    )


# -- tables of one's own


@pytest.mark.parametrize("form", ["csv", "tsv", "csv.gz"])
def test_own_tables(builder, tmp_path, form):
    rows = events()
    separator = "\t" if form == "tsv" else ","
    inter = pd.DataFrame(rows, columns=["who", "what", "stars", "when"])
    inter["when"] = pd.to_datetime(inter["when"], unit="s").dt.strftime("%Y-%m-%dT%H:%M:%S")
    inter.to_csv(tmp_path / f"shop.{form}", sep=separator, index=False)
    items = pd.DataFrame({"what": sorted({row[1] for row in rows})})
    items["label"] = [f'Line "one", word two {item}' for item in items["what"]]
    quoting = csv.QUOTE_NONE if form == "tsv" else csv.QUOTE_MINIMAL
    items.to_csv(tmp_path / f"items.{form}", sep=separator, index=False, quoting=quoting)
    columns = {"user": "who", "item": "what", "rating": "stars", "time": "when"}
    words = [f"--{role}_column={name}" for role, name in columns.items()]
    builder("csv", f"--inter={tmp_path}/shop.{form}", f"--item={tmp_path}/items.{form}", *words)
    assert written(builder.table("shop")) == expected(rows)
    found = builder.table("shop", "item")
    assert found["label"][0] == f"Line ''one'', word two {found['item_id'][0]}"


def test_own_table_without_rating_and_time(builder, tmp_path):
    text = "user_id,item_id,extra\n" + "".join(f"{u},{i},x\n" for u, i, _, _ in events())
    (tmp_path / "plain.csv").write_bytes(text.encode())
    builder("csv", f"--inter={tmp_path}/plain.csv")
    assert list(builder.table("plain").columns) == ["user_id", "item_id"]
    builder("csv", f"--inter={tmp_path}/plain.csv", "--name=x", "--min_rating=3", status=2)
    assert "csv has no ratings here" in builder.err


def test_own_table_with_wrong_columns_or_rows(builder, tmp_path):
    (tmp_path / "own.csv").write_text("user,item\n1,2\n")
    message = builder.fails("csv", f"--inter={tmp_path}/own.csv")
    assert "has no column 'user_id' (user), it has: user, item" in message
    assert "--user_column=" in message
    (tmp_path / "own.csv").write_text("user_id,item_id\n1\n2\n3,4\n")
    message = builder.fails("csv", f"--inter={tmp_path}/own.csv")
    assert "2 of 3 lines are not what is expected" in message and "1 cells, 2 columns" in message
    (tmp_path / "own.csv").write_text("")
    assert "own.csv is empty" in builder.fails("csv", f"--inter={tmp_path}/own.csv")
    assert "does not exist" in builder.fails("csv", f"--inter={tmp_path}/none.csv")


def test_bytes_that_are_no_utf8(builder, tmp_path):
    (tmp_path / "own.csv").write_bytes(b"user_id,item_id\nu,i\ncaf\xe9,i\nu,j\n")
    (tmp_path / "items.csv").write_bytes(b"item_id,label\ni,caf\xe9 one\nj,caf\xc3\xa9 two\n")
    files = f"--inter={tmp_path}/own.csv", f"--item={tmp_path}/items.csv"
    assert "own.csv: 1 of 3 lines are malformed, more than 2%" in builder.fails("csv", *files)
    builder("csv", *files, "--allow_malformed")
    assert len(builder.table("own")) == 2
    assert builder.manifest("own")["lines"]["own.csv"]["first_malformed"] == [3]
    assert list(builder.table("own", "item")["label"]) == ["caf? one", "café two"]


@pytest.mark.parametrize("token", ["", "a\tb", "a\0b"])
def test_identifiers_that_cannot_stand_in_an_atomic_file(builder, tmp_path, token):
    (tmp_path / "own.csv").write_text(f"user_id,item_id\nu,i\nu,j\n{token},i\n")
    builder("csv", f"--inter={tmp_path}/own.csv", "--allow_malformed")
    assert len(builder.table("own")) == 2
    assert builder.manifest("own")["lines"]["own.csv"]["first_malformed"] == [4]
