import numpy as np
import pytest
import torch

from recbole_llm.data import dataset as dataset_module
from recbole_llm.data.dataset import MultimodalDataset, MultimodalSequentialDataset

FEATURE = np.arange(1, 16, dtype=np.float16).reshape(5, 3)
CLASSES = {"BPR": MultimodalDataset, "SASRec": MultimodalSequentialDataset}


@pytest.fixture
def picture(folder):
    folder.write_ids()
    np.save(folder.path / "image.npy", FEATURE)
    return folder


def load(folder, model="BPR", **overrides):
    overrides = {"modalities": {"image": "image.npy"}, **overrides}
    return CLASSES[model](folder.config(model, **overrides))


@pytest.mark.parametrize("model", CLASSES)
def test_feature_is_that_of_the_token(picture, model):
    dataset = load(picture, model)
    feature = dataset.modality("image")
    assert feature.dtype == torch.float32
    assert feature.shape == (dataset.item_num, 3)
    assert not feature[0].any()
    for row, token in enumerate(picture.item_tokens):
        internal_id = dataset.token2id("item_id", token)
        assert feature[internal_id].tolist() == FEATURE[row].tolist()
    ids = [dataset.token2id("item_id", token) for token in picture.item_tokens]
    assert ids != [1, 2, 3, 4, 5]  # else this test would not see a missing remap


@pytest.mark.parametrize("model", CLASSES)
def test_parts_of_a_split_share_one_feature(picture, model, monkeypatch):
    built = []
    load_modality = dataset_module.load_modality

    def counted(name, spec, items):
        built.append(name)
        return load_modality(name, spec, items)

    monkeypatch.setattr(dataset_module, "load_modality", counted)
    dataset = load(picture, model)
    train, valid, test = dataset.build()
    assert dataset.loaded_modalities == []  # lazy
    feature = valid.modality("image")
    assert all(part.modality("image") is feature for part in (train, test, dataset))
    assert test.missing_items("image") == 0
    assert built == ["image"]
    assert dataset.loaded_modalities == ["image"]


def test_names_keep_their_order(folder):
    specs = {"text": "t.npy", "attr": "a.npy", "image": "i.npy"}
    assert load(folder, modalities=specs).modality_names == ["text", "attr", "image"]
    for nothing in ({}, None):
        dataset = load(folder, modalities=nothing)
        assert dataset.modality_names == []
        with pytest.raises(ValueError, match="no modality 'image', it has: none"):
            dataset.modality("image")


def test_unknown_name_lists_those_there_are(picture):
    with pytest.raises(ValueError, match="'tiny' has no modality 'audio', it has: image"):
        load(picture).modality("audio")


def test_modalities_of_a_wrong_kind(folder):
    dataset = load(folder)
    dataset.config["modalities"] = 3
    with pytest.raises(ValueError, match="must map names to sources.* got 3"):
        dataset.modality_names  # noqa: B018


def test_missing_items_are_counted_and_filled(folder, caplog):
    folder.write_ids(folder.item_tokens[:4])
    np.save(folder.path / "image.npy", FEATURE[:4])
    dataset = load(folder, missing_modality="mean")
    row = dataset.token2id("item_id", "i5")
    assert dataset.missing_items("image") == 1
    assert dataset.modality("image")[row].tolist() == FEATURE[:4].astype(float).mean(0).tolist()
    assert "1 of 5 items (20 %)" in caplog.text
    assert not load(folder).modality("image")[row].any()
    with pytest.raises(ValueError, match="first: 'i5'"):
        load(folder, missing_modality="error").modality("image")


def test_features_are_scaled_as_asked(folder):
    folder.write_ids(folder.item_tokens[:4])
    raw = np.array([[3, 4, 7], [6, 8, 7], [9, -8, 7], [2, 0, 7]], dtype=np.float16)
    np.save(folder.path / "image.npy", raw)

    def rows(how):
        dataset = load(folder, modality_scaling=how)
        feature = dataset.modality("image").numpy()
        missing = dataset.token2id("item_id", "i5")
        assert not feature[0].any() and not feature[missing].any()
        return feature[dataset.token2id("item_id", folder.item_tokens[:4])]

    exact = raw.astype(np.float64)
    np.testing.assert_array_equal(rows("none"), raw)
    length = np.sqrt((exact**2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(rows("l2"), exact / length, rtol=1e-6)
    scaled = rows("standard")
    expected = (exact[:, :2] - exact[:, :2].mean(0)) / exact[:, :2].std(0)
    np.testing.assert_allclose(scaled[:, :2], expected, rtol=1e-5)
    assert not scaled[:, 2].any()  # a constant column
    with pytest.raises(
        ValueError, match="modality_scaling must be none, l2 or standard, got modality_scaling='z'"
    ):
        rows("z")


def test_filtered_items_are_left_out(picture):
    picture.write_inter([row for row in picture.inter if row[1] != "i3"] + [("cid", "i5", 9)])
    dataset = load(picture, user_inter_num_interval="[3,inf)")
    assert dataset.modality("image").shape[0] == dataset.item_num == 5
    assert dataset.modality("image")[dataset.token2id("item_id", "i5")].tolist() == [13, 14, 15]


def test_source_files(picture):
    np.save(picture.path / "extra.npy", FEATURE)
    picture.write_items([["i1", "Hat", "", ""]])
    specs = {"image": "image.npy", "gone": "gone.npy"}
    names = [path.name for path in load(picture, modalities=specs).source_files()]
    assert names == ["tiny.inter", "image.npy", "item_ids.txt"]
    specs = {"title": {"tfidf": "title"}}
    names = [path.name for path in load(picture, modalities=specs).source_files()]
    assert names == ["tiny.inter", "tiny.item"]
    picture.write_table("user", ("user_id:token", "age:token"), [["ann", "3"]])
    columns = {"inter": ["user_id", "item_id", "timestamp"], "user": ["user_id", "age"]}
    dataset = load(picture, modalities={}, load_col=columns, filter_inter_by_user_or_item=False)
    assert [path.name for path in dataset.source_files()] == ["tiny.inter", "tiny.user"]


# Leave one out


@pytest.mark.parametrize("model", CLASSES)
def test_leave_one_out_needs_three_interactions(folder, model):
    folder.write_inter([*folder.inter, ("eve", "i1", 1), ("eve", "i2", 2), ("fox", "i1", 1)])
    with pytest.raises(
        ValueError, match=r"2 of 6 users have fewer \(first: 'eve', 'fox'\).*\[3,inf\)"
    ):
        load(folder, model).build()
    train, valid, test = load(folder, model, user_inter_num_interval="[3,inf)").build()
    assert len(test) == 4


def test_other_splits_take_short_users(folder):
    folder.write_inter([*folder.inter, ("fox", "i1", 1)])
    assert len(load(folder, protocol="random811").build()) == 3


# Fixed splits


def write_parts(folder, header=("user_id:token", "item_id:token")):
    for part, rows in (
        ("train", [("a", "i1"), ("b", "i2")]),
        ("valid", [("a", "i2")]),
        ("test", [("b", "i3")]),
    ):
        folder.write_table(f"{part}.inter", header, rows)


FIXED = {
    "benchmark_filename": ["train", "valid", "test"],
    "load_col": {"inter": ["user_id", "item_id"]},
    "protocol": None,
}


def test_fixed_split(folder):
    write_parts(folder)
    dataset = load(folder, **FIXED)
    assert [len(part) for part in dataset.build()] == [2, 1, 1]
    names = [path.name for path in dataset.source_files()]
    assert names == ["tiny.train.inter", "tiny.valid.inter", "tiny.test.inter"]


def test_sequential_model_on_a_fixed_split_without_sequences(folder):
    write_parts(folder)
    with pytest.raises(ValueError, match="without the column 'item_id_list'"):
        load(folder, "SASRec", **FIXED)


# Before RecBole loads anything


def test_missing_folder_says_where_what_and_how(folder):
    config = folder.config()
    config["data_path"] = str(folder.root / "elsewhere" / "tiny")
    with pytest.raises(FileNotFoundError) as error:
        MultimodalDataset(config)
    text = str(error.value)
    assert "no folder" in text and "elsewhere" in text
    assert "tiny.inter" in text
    assert "user_id:token<TAB>item_id:token" in text
    assert "--data_path=" in text


def test_missing_files_are_named_and_nothing_is_downloaded(folder, monkeypatch):
    monkeypatch.setattr(MultimodalDataset, "_download", lambda self: pytest.fail("downloads"))
    (folder.path / "tiny.inter").unlink()
    with pytest.raises(FileNotFoundError, match=r"tiny\.inter not in"):
        load(folder)
    write_parts(folder)
    (folder.path / "tiny.valid.inter").unlink()
    with pytest.raises(FileNotFoundError, match=r"tiny\.valid\.inter not in .*"):
        load(folder, **FIXED)


def test_well_known_dataset_says_where_it_comes_from(folder):
    config = folder.config()
    config["dataset"] = "sports"
    config["data_path"] = str(folder.root / "sports")
    with pytest.raises(FileNotFoundError, match=r"https://recbole\.io/dataset_list\.html"):
        MultimodalDataset(config)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("user_id item_id timestamp", "holds 'user_id', expected name:type"),
        ("user_id:token item_id:int timestamp:float", "holds 'item_id:int', expected name:type"),
        ("user:token item_id:token timestamp:float", r"no column 'user_id' \(USER_ID_FIELD\)"),
        ("user_id:token item_id:token time:float", "no column 'timestamp'.*`order: TO`"),
        ("user_id:token item_id:float timestamp:float", "'item_id' .* type float, expected token"),
        (
            "user_id:token item_id:token timestamp:token",
            "'timestamp' .* type token, expected float",
        ),
    ],
)
def test_malformed_header(folder, header, message):
    folder.write_table("inter", header.split(), folder.inter)
    with pytest.raises(ValueError, match=message) as error:
        load(folder)
    assert "tiny.inter" in str(error.value)


def test_column_that_load_col_names_is_missing(folder):
    columns = ["user_id", "item_id", "timestamp", "rating"]
    with pytest.raises(ValueError, match=r"no column 'rating' \(load_col\), the file has user_id"):
        load(folder, load_col={"inter": columns})


def test_column_that_the_order_needs_is_not_loaded(folder):
    with pytest.raises(ValueError, match="load_col leaves out column 'timestamp'"):
        load(folder, load_col={"inter": ["user_id", "item_id"]})
    random = {"protocol": "random811", "load_col": {"inter": ["user_id", "item_id"]}}
    assert load(folder, **random).inter_num == len(folder.inter)


def test_load_col_may_say_everything(folder):
    for everything in (None, {"inter": "*"}):
        assert load(folder, load_col=everything).inter_num == len(folder.inter)
