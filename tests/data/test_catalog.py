import pytest

from recbole_llm.config import Config
from recbole_llm.data.catalog import ORIGINS, available_datasets
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.yaml_io import properties_dir

SHIPPED = ["baby", "beauty", "clothing", "ml-100k", "sports", "tiktok", "toys", "yelp"]


def test_shipped_settings_and_own_folders(folder):
    parts = folder.root / "parts"
    parts.mkdir()
    (parts / "parts.train.inter").touch()
    (folder.root / "empty").mkdir()
    entries = {entry.name: entry for entry in available_datasets(folder.root)}
    assert set(SHIPPED) <= set(entries)
    assert list(entries) == sorted(entries)
    assert entries["tiny"] == ("tiny", folder.path, True)
    assert entries["parts"].has_files
    assert not entries["sports"].has_files
    assert entries["sports"].path == folder.root / "sports"
    assert "empty" not in entries


def test_ml100k_is_recboles_unless_there_is_an_own_one(tmp_path):
    def entry():
        return next(e for e in available_datasets(tmp_path / "data") if e.name == "ml-100k")

    assert entry().has_files
    assert "dataset_example" in str(entry().path)
    own = tmp_path / "data" / "ml-100k"
    own.mkdir(parents=True)
    (own / "ml-100k.inter").touch()
    assert entry().path == own


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_settings_load(name):
    assert (properties_dir() / "dataset" / f"{name}.yaml").is_file()
    assert name in ORIGINS
    config = Config("BPR", name)
    assert {"user_id", "item_id"} <= set(config["load_col"]["inter"])
    assert bool(config["benchmark_filename"]) == (name in ("baby", "tiktok"))
    assert isinstance(config["modalities"], dict)


def test_ml100k_as_shipped():
    dataset = MultimodalDataset(Config("BPR", "ml-100k", overrides={"data_path": "nowhere"}))
    assert (dataset.user_num, dataset.item_num, dataset.inter_num) == (944, 1683, 100_000)
    assert dataset.modality_names == ["text", "genre"]
    genre = dataset.modality("genre")
    assert genre.shape == (1683, 19)
    # Item 1 is Toy Story: Animation, Children's, Comedy; its id differs from its token.
    assert genre[dataset.token2id("item_id", "1")].sum() == 3
