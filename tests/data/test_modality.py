import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from recbole_llm.data import modality_sources
from recbole_llm.data.modality import fill_missing, load_modality, modality_files

RNG = np.random.default_rng(0)
FEATURE = RNG.normal(size=(5, 3)).astype(np.float32)
ROWS = [
    ["i1", "Red  Hat", "1990", "cap wool"],
    ["i2", "Blue Hat", "", "wool"],
    ["i3", "", "", ""],
    ["i4", "NA", "1991", "cap silk cap"],
    ["i5", "Red Hat", "1990", "null"],
]


# Files


def test_rows_follow_item_ids_not_position(folder):
    items = folder.items(["i4", "i2", "i5", "i1", "i3"])
    folder.write_ids()
    np.save(folder.path / "f.npy", FEATURE)
    straight = load_modality("image", "f.npy", items)
    by_hand = {token: FEATURE[row] for row, token in enumerate(folder.item_tokens)}
    for internal_id, token in enumerate(items.tokens[1:], start=1):
        assert np.array_equal(straight[internal_id], by_hand[token])
    assert not straight[0].any()

    order = [3, 0, 4, 2, 1]
    folder.write_ids([folder.item_tokens[row] for row in order])
    np.save(folder.path / "f.npy", FEATURE[order])
    assert np.array_equal(load_modality("image", "f.npy", items), straight)


def test_without_item_ids_the_item_file_gives_the_rows(folder):
    order = [3, 0, 4, 2, 1]
    folder.write_items([ROWS[row] for row in order])
    np.save(folder.path / "f.npy", FEATURE[order])
    assert np.array_equal(load_modality("image", "f.npy", folder.items())[1:], FEATURE)


def test_many_blocks_equal_one(folder, monkeypatch):
    folder.write_ids()
    np.save(folder.path / "f.npy", FEATURE)
    monkeypatch.setattr(modality_sources, "_ROWS_AT_A_TIME", 2)
    assert np.array_equal(load_modality("image", "f.npy", folder.items())[1:], FEATURE)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_float_becomes_float32(folder, dtype):
    folder.write_ids()
    np.save(folder.path / "f.npy", FEATURE.astype(dtype))
    feature = load_modality("image", {"file": "f.npy"}, folder.items())
    assert feature.dtype == np.float32
    assert np.array_equal(feature[1:], FEATURE.astype(dtype).astype(np.float32))


def test_file_is_mapped_and_only_wanted_rows_are_read(folder, monkeypatch):
    folder.write_ids()
    broken = FEATURE.copy()
    broken[4] = np.nan  # i5 is not in the dataset below, so its row must not be looked at
    np.save(folder.path / "f.npy", broken)
    modes = []
    load = np.load
    monkeypatch.setattr(
        np,
        "load",
        lambda *args, **kw: (
            modes.append((kw["mmap_mode"], kw["allow_pickle"])) or load(*args, **kw)
        ),
    )
    feature = load_modality("image", "f.npy", folder.items(["i2", "i1"]))
    assert modes == [("r", False)]
    assert np.array_equal(feature[1:], FEATURE[[1, 0]])


def test_item_without_a_row_gets_zeros(folder):
    folder.write_ids(folder.item_tokens[:4])
    np.save(folder.path / "f.npy", FEATURE[:4])
    feature = load_modality("image", "f.npy", folder.items(["i5", "i1"]))
    assert not feature[1].any()
    assert np.array_equal(feature[2], FEATURE[0])


def test_missing_file_names_the_modality_and_path(folder):
    with pytest.raises(
        FileNotFoundError, match=r"modality 'image' of dataset 'tiny'.*f\.npy does not"
    ):
        load_modality("image", "f.npy", folder.items())


def test_wrong_row_count(folder):
    folder.write_ids()
    np.save(folder.path / "f.npy", FEATURE[:4])
    with pytest.raises(
        ValueError, match=r"f\.npy has 4 rows, expected 5, one per line of item_ids\.txt"
    ):
        load_modality("image", "f.npy", folder.items())


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_bad_number_names_the_first_row_and_its_item(folder, value):
    folder.write_ids()
    array = FEATURE.astype(np.float64)
    array[[1, 3], 2] = value
    np.save(folder.path / "f.npy", array)
    items = folder.items(["i4", "i2", "i5"])
    with pytest.raises(ValueError, match=r"f\.npy holds NaN or infinity.* row 1, item 'i2'"):
        load_modality("image", "f.npy", items)


@pytest.mark.parametrize(
    "array", [FEATURE.astype(int), FEATURE[0], FEATURE[:, :0], FEATURE.astype(np.complex64)]
)
def test_wrong_dtype_or_shape(folder, array):
    folder.write_ids()
    np.save(folder.path / "f.npy", array)
    with pytest.raises(ValueError, match=r"f\.npy holds .* expected float16, float32 or float64"):
        load_modality("image", "f.npy", folder.items())


def test_pickles_archives_and_torn_files_are_refused(folder):
    folder.write_ids()
    path = folder.path / "f.npy"
    np.save(path, np.array([{"a": 1}] * 5, dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="not a readable"):
        load_modality("image", "f.npy", folder.items())
    np.save(path, FEATURE)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="not a readable"):
        load_modality("image", "f.npy", folder.items())
    np.savez(folder.path / "f.npz", FEATURE)
    with pytest.raises(ValueError, match=r"f\.npz holds None"):
        load_modality("image", "f.npz", folder.items())


def test_repeated_id(folder):
    folder.write_ids(["i1", "i2", "i2", "i4", "i5"])
    np.save(folder.path / "f.npy", FEATURE)
    with pytest.raises(ValueError, match=r"item_ids\.txt names item 'i2' 2 times"):
        load_modality("image", "f.npy", folder.items())


def test_no_row_order_at_all(folder):
    np.save(folder.path / "f.npy", FEATURE)
    with pytest.raises(FileNotFoundError, match=r"neither .*item_ids\.txt nor tiny\.item"):
        load_modality("image", "f.npy", folder.items())


# Missing items


def test_missing_policies(folder, caplog):
    feature = np.array([[0, 0], [1, 2], [0, 0], [3, 6]], dtype=np.float32)
    tokens = ["a", "b", "c"]
    zero = feature.copy()
    assert fill_missing("image", zero, folder.items(tokens)) == 1
    assert np.array_equal(zero, feature)
    assert "1 of 3 items (33.3 %) have no feature" in caplog.text
    mean = feature.copy()
    assert fill_missing("image", mean, folder.items(tokens, missing_modality="mean")) == 1
    assert mean.tolist() == [[0, 0], [1, 2], [2, 4], [3, 6]]
    with pytest.raises(ValueError, match=r"'image'.*1 of 3 items have no feature \(first: 'b'\)"):
        fill_missing("image", feature, folder.items(tokens, missing_modality="error"))
    for policy in ("drop", None):
        message = f"zero, mean or error, got missing_modality={policy!r}"
        with pytest.raises(ValueError, match=message):
            folder.items(tokens, missing_modality=policy)


def test_no_feature_at_all_is_an_error_under_any_policy(folder):
    with pytest.raises(ValueError, match=r"none of the 2 items has a feature \(first: 'a', 'b'\)"):
        fill_missing("image", np.zeros((3, 2), np.float32), folder.items(["a", "b"]))


def test_nothing_missing_says_nothing(folder, caplog):
    assert (
        fill_missing("image", np.eye(3, dtype=np.float32)[[0, 1, 2]], folder.items(["a", "b"])) == 0
    )
    assert not caplog.text


# Text


def test_text_is_joined_and_empty_cells_are_missing(folder, fake_encoder):
    folder.write_items(ROWS)
    feature = load_modality(
        "text", {"text": ["title", "year"]}, folder.items(["i3", "i1", "i4", "i2"])
    )
    assert fake_encoder == [["Blue Hat", "NA, 1991", "Red Hat, 1990"]]
    assert feature.tolist() == [
        [0, 0],
        [0, 0],
        [len("Red Hat, 1990"), 2],
        [len("NA, 1991"), 1],
        [len("Blue Hat"), 2],
    ]


def test_text_cache_hits_until_a_text_changes(folder, fake_encoder):
    spec = {"text": "title", "encoder": "mini"}
    folder.write_items(ROWS)
    first = load_modality("text", spec, folder.items())
    files = list((folder.root / "cache" / "text").iterdir())
    assert [path.suffix for path in files] == [".npy"]  # no temporary file stays
    folder.write_items(ROWS[::-1])
    assert np.array_equal(load_modality("text", spec, folder.items()), first)
    load_modality("text", spec, folder.items(folder.item_tokens[::-1]))
    assert len(fake_encoder) == 1
    folder.write_items([ROWS[0], ["i2", "Green Hat", "", ""], *ROWS[2:]])
    assert load_modality("text", spec, folder.items())[2, 0] == len("Green Hat")
    assert len(fake_encoder) == 2
    load_modality("text", {**spec, "encoder": "other"}, folder.items())
    assert len(fake_encoder) == 3


def test_text_cache_depends_on_the_encoders_version(folder, fake_encoder, monkeypatch):
    folder.write_items(ROWS)
    load_modality("text", {"text": "title"}, folder.items())
    monkeypatch.setattr("recbole_llm.encoders.text.encoder_version", lambda encoder: "2")
    load_modality("text", {"text": "title"}, folder.items())
    assert len(fake_encoder) == 2


@pytest.mark.parametrize("damage", ["torn", "empty", "rows", "nan"])
def test_damaged_cache_is_encoded_again(folder, fake_encoder, caplog, damage):
    folder.write_items(ROWS)
    first = load_modality("text", {"text": "title"}, folder.items())
    (path,) = (folder.root / "cache" / "text").iterdir()
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:-3])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        np.save(
            path,
            np.zeros((9, 2), np.float32)
            if damage == "rows"
            else np.full((3, 2), np.nan, np.float32),
        )
    assert np.array_equal(load_modality("text", {"text": "title"}, folder.items()), first)
    assert len(fake_encoder) == 2
    assert "is damaged" in caplog.text
    load_modality("text", {"text": "title"}, folder.items())
    assert len(fake_encoder) == 2


def test_text_errors(folder, fake_encoder):
    with pytest.raises(FileNotFoundError, match=r"modality 'text'.*tiny\.item does not exist"):
        load_modality("text", {"text": "title"}, folder.items())
    folder.write_items(ROWS)
    with pytest.raises(ValueError, match="no column 'brand', it has item_id, title, year, genre"):
        load_modality("text", {"text": ["title", "brand"]}, folder.items())
    with pytest.raises(ValueError, match="no item of the dataset has text in title"):
        load_modality("text", {"text": ["title"]}, folder.items(["i3"]))


@pytest.mark.llm
def test_text_with_the_real_encoder(folder):
    folder.write_items(ROWS)
    feature = load_modality(
        "text", {"text": "title", "encoder": "all-minilm-l6-v2"}, folder.items()
    )
    assert feature.shape == (6, 384)
    assert np.allclose(np.linalg.norm(feature, axis=1), [0, 1, 1, 0, 1, 1], atol=1e-5)
    assert np.array_equal(feature[1], feature[5])  # the same text
    assert feature[1] @ feature[2] > feature[1] @ feature[4]  # hats are closer than "NA"


# Attributes


def test_multi_hot(folder):
    folder.write_items(ROWS)
    feature = load_modality("genre", {"multi_hot": "genre"}, folder.items(["i4", "i3", "i1", "i5"]))
    assert feature.dtype == np.float32
    # cap, null, silk, wool
    assert feature.tolist() == [[0] * 4, [1, 0, 1, 0], [0] * 4, [1, 0, 0, 1], [0, 1, 0, 0]]


def test_multi_hot_of_a_token_column_keeps_the_cell_whole(folder):
    folder.write_table(
        "item", ("item_id:token", "brand:token"), [["i1", "Red Hat"], ["i2", "Acme"]]
    )
    feature = load_modality("brand", {"multi_hot": "brand"}, folder.items(["i1", "i2"]))
    assert feature.tolist() == [[0, 0], [0, 1], [1, 0]]


def test_tfidf_equals_scikit_learn_on_words(folder):
    folder.write_items(ROWS)
    feature = load_modality("genre", {"tfidf": "genre"}, folder.items())
    expected = TfidfVectorizer(token_pattern=r"\S+").fit_transform([row[3] for row in ROWS])
    assert np.allclose(feature[1:], expected.toarray(), atol=1e-6)
    assert np.allclose(np.linalg.norm(feature, axis=1), [0, 1, 1, 0, 1, 1], atol=1e-6)


def test_attribute_errors(folder):
    folder.write_table("item", ("item_id:token", "price:float", "tag:token"), [["i1", "3.5", ""]])
    with pytest.raises(
        ValueError, match="'price' of .* has type float, expected token or token_seq"
    ):
        load_modality("price", {"multi_hot": "price"}, folder.items(["i1"]))
    with pytest.raises(ValueError, match="no item of the dataset has a 'tag'"):
        load_modality("tag", {"tfidf": "tag"}, folder.items(["i1"]))


# Specs


@pytest.mark.parametrize(
    "spec",
    [
        None,
        7,
        "",
        {},
        {"npy": "f.npy"},
        {"file": 3},
        {"file": "f.npy", "encoder": "x"},
        {"text": []},
        {"text": "title", "model": "x"},
        {"multi_hot": ["genre"]},
        {"multi_hot": "genre", "tfidf": "genre"},
    ],
)
def test_unknown_spec_lists_the_accepted_forms(folder, spec):
    with pytest.raises(ValueError, match=r"'image' of dataset 'tiny'.*Accepted forms: .*multi_hot"):
        load_modality("image", spec, folder.items())


def test_modality_files(folder):
    items = folder.items()
    assert [p.name for p in modality_files("a", "f.npy", items)] == ["f.npy", "tiny.item"]
    folder.write_ids()
    assert [p.name for p in modality_files("a", "f.npy", items)] == ["f.npy", "item_ids.txt"]
    assert [p.name for p in modality_files("a", {"tfidf": "genre"}, items)] == ["tiny.item"]
