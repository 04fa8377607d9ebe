"""What an export holds: embeddings by id, settings that run again, a card without places."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import recbole_llm
from recbole_llm.cli.main import main
from recbole_llm.config import Config
from recbole_llm.record import RunRecord
from recbole_llm.yaml_io import read_yaml

Train = Callable[..., RunRecord]


@pytest.mark.parametrize("form", ["npy", "safetensors"])
def test_embeddings_stand_next_to_their_ids(form: str, runner: Train) -> None:
    record = runner("BPR")
    assert main(["export", record.folder, "--to=out", f"--format={form}"]) == 0
    loaded = recbole_llm.load(record.folder)
    for side, embeddings in [
        ("user", loaded.user_embeddings()),
        ("item", loaded.item_embeddings()),
    ]:
        path = Path("out") / f"{side}_embeddings.{form}"
        values = np.load(path) if form == "npy" else load_file(path)["embeddings"]
        np.testing.assert_array_equal(values, embeddings.values)
        ids = (Path("out") / f"{side}_ids.txt").read_text().splitlines()
        assert ids == embeddings.tokens.tolist() and len(ids) == len(values)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("LightGCN", {"n_layers": 3, "learning_rate": 0.002, "protocol": "loo"}),
        ("SASRecCausal", {"hidden_dropout_prob": 0.1}),
        ("GRU4Rec", {"train_batch_size": 4096, "MAX_ITEM_LIST_LENGTH": 10}),
        ("EASE", {"eval_args": {"split": {"RS": [0.7, 0.1, 0.2]}, "order": "RO"}}),
        ("MLLMRec", {"modalities": {"genre": {"multi_hot": "class"}}}),
    ],
)
def test_settings_give_the_same_run_again(
    model: str, settings: dict[str, object], runner: Train, small_ml100k: Path
) -> None:
    record = runner(model, **settings)
    assert main(["export", record.folder, "--to=out"]) == 0
    written = read_yaml(Path("out/settings.yaml"))
    again = Config(config_files=["out/settings.yaml"], overrides={"data_path": str(small_ml100k)})
    assert again.fingerprint() == record.config_hash
    assert (again["model"], again["dataset"]) == (record.model, record.dataset)
    assert len(written) < 12  # what the model has by default is left out
    text = "".join(path.read_text() for path in Path("out").glob("*.*") if path.suffix != ".npy")
    assert str(Path.cwd()) not in text and str(small_ml100k) not in text


def test_the_card_has_metrics_protocol_and_versions(runner: Train) -> None:
    record = runner("EASE")
    assert main(["export", record.folder, "--to=out"]) == 0
    card = Path("out/README.md").read_text()
    for text in [
        "# EASE on ml-100k",
        f"{record.metrics['test']['ndcg@20']:.4f}",
        "random811, seed 2020",
        record.data["split"],
        f"torch {record.environment['versions']['torch']}",
    ]:
        assert text in card
    assert not list(Path("out").glob("*embeddings*"))  # EASE has none
    assert json.loads(Path("out/record.json").read_text())["id"] == record.id


def test_a_folder_that_holds_something_is_left_alone(
    runner: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    record = runner("Pop")
    Path("out").mkdir()
    Path("out/mine.txt").write_text("mine")
    capsys.readouterr()
    assert main(["export", record.folder, "--to=out"]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in Path("out").iterdir()] == ["mine.txt"]
    assert main(["export", record.folder, "--to=new", "--format=csv"]) == 2
    assert "npy, safetensors" in capsys.readouterr().err and not Path("new").exists()
