"""A prepared folder is a dataset: it trains, describes itself, and is named where it is missing."""

import argparse
import json
import re
import shlex

import pytest
import yaml
from raw_files import Shop, events

from recbole_llm.cli.main import run_recbole
from recbole_llm.cli.prepare import _source, add_arguments
from recbole_llm.config import Config
from recbole_llm.data.catalog import ORIGINS

QUIET = ["--epochs=1", "--show_progress=false", "--state=ERROR", "--torch_threads=1"]


@pytest.fixture
def shop(server):
    """A shop with more items than a ranking shows."""
    shop = Shop(server)
    shop.publish(events(n_users=40, n_items=30, each=12), images=True)
    return shop


@pytest.fixture
def command(builder, work, capsys):
    """Return a function that trains on what was prepared and returns the run's record."""

    def call(model, dataset, *words, status=0):
        capsys.readouterr()
        line = [f"--model={model}", f"--dataset={dataset}", f"--data_path={builder.data_path}"]
        found = run_recbole([*line, *QUIET, *words])
        call.out, call.err = capsys.readouterr()
        assert found == status, call.out + call.err
        if status == 0:
            return json.loads((work / re.search("record: (.*)", call.out)[1]).read_text())

    return call


def test_lightgcn_trains_on_what_was_prepared(builder, shop, command):
    builder(*shop.arguments)
    assert "train:   run_recbole --model=LightGCN --dataset=sports" in builder.out
    record = command("LightGCN", "sports")
    assert record["data"]["n_users"] == 40 and record["data"]["n_items"] == 30
    assert record["data"]["n_interactions"] == [400, 40, 40]


def test_the_toolbox_s_split_is_trained_as_it_is(builder, tmp_path, command):
    folder = tmp_path / "mmrec"
    folder.mkdir()
    rows = [
        f"{user}\t{item}\t5.0\t{item}\t{(0, 0, 0, 1, 2)[(item + user) % 5]}"
        for user in range(25)
        for item in range(30)
        if (user + item) % 3
    ]
    text = "\n".join(["userID\titemID\trating\ttimestamp\tx_label", *rows])
    (folder / "clothing.inter").write_text(text + "\n")
    builder("mmrec", f"--path={folder}")
    record = command("LightGCN", "clothing")
    assert record["protocol"] == "fixed"


HELLM = [
    "--prompt=hellm_short",
    "--graph_stage={embedding_size: 16, epochs: 1, eval_step: 1, knn_k: 3}",
    "--sequence_stage={hidden_size: 16, inner_size: 32, epochs: 1}",
    "--prefix_mlp_size=8",
    "--pool_dim=4",
    "--lora_r=2",
]


def test_hellm_asks_for_the_command_and_then_trains(builder, shop, command, tiny_llm):
    command("HeLLM", "sports", status=2)
    asked = re.search(r"`recbole_llm (prepare [^`]*)`", command.err)
    assert asked, command.err
    words = shlex.split(asked[1])[1:]
    assert words == shop.arguments[:2]
    builder(*words, f"--mirror={shop.server.url}", "--image_features")
    record = command("HeLLM", "sports", f"--llm_path={tiny_llm}", "--modalities=[image]", *HELLM)
    assert record["protocol"] == "loo" and record["metrics"]["test"]


@pytest.mark.llm
def test_prepared_text_is_encoded(builder, shop, command):
    builder(*shop.arguments)
    record = command("VBPR", "sports")
    assert record["config"]["modalities"]["text"]["text"][0] == "title"
    assert record["data"]["modalities"]["text"]["missing_items"] == 0


def test_every_command_that_is_recommended_builds_that_dataset():
    commands = {
        name: re.findall(r"`recbole_llm prepare ([^`]*)`", text) for name, text in ORIGINS.items()
    }
    assert sum(map(len, commands.values())) == 11
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    for name, lines in commands.items():
        for line in lines:
            arguments = parser.parse_args(shlex.split(line))
            assert _source(arguments).dataset == name


# -- dataset.yaml


def test_the_folder_s_settings_stand_in_place_of_the_shipped(builder, shop, tmp_path):
    before = Config("BPR", "sports", overrides={"data_path": str(builder.data_path)})
    assert before["modalities"]["text"] == "text_feat.npy"
    builder(*shop.arguments)
    after = Config("BPR", "sports", overrides={"data_path": str(builder.data_path)})
    assert set(after["modalities"]) == {"text"}
    assert after["modalities"]["text"]["encoder"] == "all-minilm-l6-v2"
    assert "rating" in after["load_col"]["inter"]
    elsewhere = Config("BPR", "sports", overrides={"data_path": str(tmp_path / "elsewhere")})
    assert elsewhere["modalities"] == before["modalities"]


def test_a_shipped_split_does_not_reach_a_folder_without_one(builder, server):
    assert Config("BPR", "baby", overrides={"data_path": "nowhere"})["benchmark_filename"]
    shop = Shop(server, "Baby")
    shop.publish(events())
    builder(*shop.arguments)
    config = Config("BPR", "baby", overrides={"data_path": str(builder.data_path)})
    assert config["benchmark_filename"] is None and config["protocol"] == "random811"


def test_the_command_line_goes_over_the_folder_s_settings(builder, shop):
    builder(*shop.arguments)
    path = builder.data_path / "sports" / "dataset.yaml"
    path.write_text(yaml.safe_dump({"load_col": {"inter": ["user_id", "item_id"]}, "topk": [7]}))
    overrides = {"data_path": str(builder.data_path), "valid_metric": "Recall@7"}
    assert Config("BPR", "sports", overrides=overrides)["topk"] == [7]
    line = {"topk": [7, 9]}
    assert Config("BPR", "sports", overrides=overrides, command_line=line)["topk"] == [7, 9]


def test_a_key_that_nothing_reads_is_named(builder, shop):
    builder(*shop.arguments)
    path = builder.data_path / "sports" / "dataset.yaml"
    path.write_text("modalitys: {}\n")
    with pytest.raises(ValueError, match=r"dataset\.yaml: unknown key 'modalitys'.*'modalities'"):
        Config("BPR", "sports", overrides={"data_path": str(builder.data_path)})
