"""Class names in place of descriptions of images, and their mark wherever they are used."""

import json
from pathlib import Path

import pytest
import torch
from chat_server import Server
from shop import picture

from recbole_llm.cli.main import main
from recbole_llm.data.profile import load_profiles
from recbole_llm.encoders.efficientnet import LiteEncoder, class_names
from recbole_llm.encoders.images import find_images

pytestmark = pytest.mark.llm


@pytest.fixture
def images(toy: Path) -> Path:
    """Images of two items, and a file of a third that is no image."""
    folder = toy / "toy" / "images"
    folder.mkdir()
    for seed in (1, 2):
        picture(seed).save(folder / f"i{seed}.png")
    (folder / "i3.jpg").write_bytes(b"junk")
    return folder


def expected_words(images: Path) -> dict[str, str]:
    encoder, names, words = LiteEncoder("auto", torch.device("cpu")), class_names(), {}
    for token, path in find_images(images, ["i1", "i2"]).items():
        inputs, _ = encoder.read([path])
        logits = encoder.model.fc(encoder.forward(inputs))[0]
        words[token] = ", ".join(names[n] for n in logits.argsort(descending=True)[:5])
    return words


def test_words_are_the_five_most_likely_classes(reasoner, images: Path, tmp_path: Path, capsys):
    assert reasoner("--image_words", stage="images") == 0
    folder = tmp_path / "out"
    lines = (folder / "item_descriptions.jsonl").read_text().splitlines()
    found = {line["item"]: line for line in map(json.loads, lines)}
    words = expected_words(images)
    assert {item: found[item]["text"] for item in words} == words
    assert found["i3"]["text"] is None
    assert "not an image but other data" in found["i3"]["reason"]
    identity = json.loads((folder / "report.json").read_text())["image_model"]
    assert identity["backend"] == "image-words" and identity["model"] == "efficientnet-lite0"
    assert "[image words: class names stand in" in capsys.readouterr().out


def test_words_reach_the_prompts_and_the_mark_reaches_record_and_summary(
    reasoner, server: Server, images: Path, arguments: list[str], tmp_path: Path, capsys
):
    assert reasoner("--image_words", stage="all") == 0
    words = expected_words(images)
    assert any(words["i1"] in prompt for prompt in server.prompts())
    profiles = load_profiles(tmp_path / "out", ["[PAD]", "u0", "u1"])
    assert profiles.has_image_words and not profiles.is_leaky

    capsys.readouterr()
    options = ["--model=MLLMRec", f"--user_profile={tmp_path / 'out'}", "--epochs=1"]
    options += ["--topk=[3]", "--valid_metric=Recall@3"]
    options += [f"--modalities={{mm: {tmp_path / 'out' / 'item_mm_feat.npy'}}}"]
    options += ["--embedding_size=4", "--hidden_size=4", "--semantic_k=2", "--cooccurrence_k=2"]
    assert main(["run", *arguments, *options]) == 0
    assert "IMAGE WORDS: class names stand in" in capsys.readouterr().out
    record = json.loads(next(Path("runs").glob("*/record.json")).read_text())
    (of_run,) = record["data"]["user_profiles"].values()
    assert of_run["image_words"] is True


def test_words_and_a_model_exclude_each_other(reasoner, images: Path, capsys):
    assert reasoner("--image_words", "--image_model=eyes") == 2
    assert "--image_words and --image_model both describe images" in capsys.readouterr().err
