"""Kind 1: a prepared dataset whose files were changed afterwards is refused."""

import json

import numpy as np
import pytest

from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.data.describe import describe_data
from recbole_llm.files import sha256_of

SETTINGS = {"modalities": {"image": "image_feat.npy"}}


@pytest.fixture
def prepared(folder):
    """The tiny dataset with a manifest as `prepare` writes it."""
    folder.write_ids()
    np.save(folder.path / "image_feat.npy", np.ones((5, 2), dtype=np.float32))
    write_manifest(folder)
    return folder


def write_manifest(folder):
    files = {path.name: sha256_of(path) for path in folder.path.iterdir()}
    content = {"source": "csv", "dataset": "tiny", "files": files}
    (folder.path / "manifest.json").write_text(json.dumps(content))


def load(folder):
    return MultimodalDataset(folder.config(**SETTINGS))


def test_an_unchanged_dataset_is_read(prepared):
    dataset = load(prepared)
    names = {path.name for path in dataset.source_files()}
    assert names == {"tiny.inter", "image_feat.npy", "item_ids.txt"}
    digests = {name: sha256_of(prepared.path / name) for name in names}
    assert describe_data(dataset, dataset.build())["files"] == digests


@pytest.mark.parametrize("name", ["tiny.inter", "image_feat.npy"])
def test_kind1_one_changed_byte_is_refused(prepared, name):
    path = prepared.path / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=f"{name} was changed since .* delete manifest.json"):
        load(prepared)


def test_a_file_of_the_users_own_is_read(prepared):
    np.save(prepared.path / "text_feat.npy", np.ones((5, 2), dtype=np.float32))
    config = prepared.config(modalities={"text": "text_feat.npy"})
    assert MultimodalDataset(config).modality("text").shape == (6, 2)


def test_a_feature_that_encode_wrote_anew_is_read(prepared):
    path = prepared.path / "image_feat.npy"
    np.save(path, np.full((5, 3), 2, dtype=np.float32))
    path.with_suffix(".json").write_text(json.dumps({"sha256": sha256_of(path)}))
    assert load(prepared).modality("image").shape == (6, 3)


@pytest.mark.parametrize("text", ["", "{", '{"source": 1}', '{"source": "csv", "files": 3}', "7"])
def test_a_damaged_manifest_is_named(prepared, text):
    (prepared.path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"manifest.json is damaged .* delete manifest.json"):
        load(prepared)


def test_a_manifest_of_something_else_is_left_alone(prepared):
    (prepared.path / "manifest.json").write_text('{"name": "my app"}')
    load(prepared)
