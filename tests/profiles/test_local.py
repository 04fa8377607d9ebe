"""The local back end: tiny random models, and once the embedded one, killed and gone on."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.models.clip import CLIPImageProcessor

from recbole_llm.cli.main import main
from recbole_llm.profiles.answer import Decoding, Request
from recbole_llm.profiles.local_client import LocalBackend, SeededSampling, load_tokenizer

CACHE = Path(__file__).parents[2] / "saved" / "cache"  # the real model is converted there once
PROMPTS = ["likes", "Item number one green thing and another", "two things", "x y z"]


def text_config(**more):
    sizes = {
        "vocab_size": 400,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 1,
        "initializer_range": 0.5,  # larger than usual, so that answers differ
    }
    return LlamaConfig(**{**sizes, "tie_word_embeddings": True, **more})


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer_folder):
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    torch.manual_seed(0)
    LlamaForCausalLM(text_config()).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(folder)
    return folder


def ask(backend, prompts, decoding, images=None):
    requests = [
        Request(str(n), prompt, images[n] if images else None, decoding)
        for n, prompt in enumerate(prompts)
    ]
    answers = {request.key: answer for request, answer in backend.ask(requests)}
    return [answers[request.key] for request in requests]


@pytest.mark.parametrize("decoding", [Decoding(12), Decoding(12, 1.0, 0.9, seed=3)])
def test_batches_and_single_requests_agree(folder, decoding):
    together = ask(LocalBackend(str(folder), batch_size=4), PROMPTS, decoding)
    alone = ask(LocalBackend(str(folder), batch_size=1), PROMPTS, decoding)
    assert together == alone
    assert len({answer.text for answer in together}) > 1


def test_greedy_answers_are_the_argmax(folder):
    (answer,) = ask(LocalBackend(str(folder)), PROMPTS[:1], Decoding(8))
    model = LlamaForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(PROMPTS[0], return_tensors="pt")["input_ids"]
    n_prompt = ids.size(1)
    for _ in range(8):
        ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
        if ids[0, -1] == 1:
            break
    assert answer.text == tokenizer.decode(ids[0, n_prompt:], skip_special_tokens=True).strip()
    assert answer.prompt_tokens == n_prompt


def test_sampling_follows_the_seed(folder):
    backend = LocalBackend(str(folder))
    first, second, again = (ask(backend, PROMPTS, Decoding(12, 1.0, seed=n)) for n in (1, 2, 1))
    assert first == again and first != second


def test_gumbel_noise_samples_the_softmax():
    logits = torch.tensor([[0.0, 1.0, 2.0]]).log_softmax(-1)
    sampler = SeededSampling([Request("k", "p", None, Decoding(1, 0.5, 1.0, 0))])
    draws = torch.stack([sampler(torch.zeros(1, 1), logits).argmax(-1) for _ in range(4000)])
    share = torch.bincount(draws.flatten(), minlength=3) / len(draws)
    assert torch.allclose(share, (2 * logits).softmax(-1)[0], atol=0.03)


def test_end_of_text_is_known(folder):
    cut = ask(LocalBackend(str(folder)), PROMPTS, Decoding(1))
    assert all(answer.output_tokens <= 1 for answer in cut)
    assert all(answer.is_cut for answer in cut if answer.output_tokens)


def test_prompt_that_does_not_fit(folder):
    with pytest.raises(ValueError, match=r"do not fit the 128 tokens of .*Lower --max_history"):
        ask(LocalBackend(str(folder)), ["green " * 200], Decoding(10))


def test_identity_is_the_files_and_not_the_place(folder, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "tiny")
    moved = LocalBackend(str(tmp_path / "tiny")).identity
    assert moved == LocalBackend(str(folder)).identity
    torch.manual_seed(1)
    LlamaForCausalLM(text_config()).save_pretrained(tmp_path / "tiny")
    assert LocalBackend(str(tmp_path / "tiny")).identity != moved


def test_trunk_without_a_head_is_refused(tmp_path, tokenizer_folder):
    LlamaModel(text_config(tie_word_embeddings=False)).save_pretrained(tmp_path / "trunk")
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(tmp_path / "trunk")
    with pytest.raises(OSError, match=r"weights are missing, among them lm_head\.weight"):
        ask(LocalBackend(str(tmp_path / "trunk")), PROMPTS, Decoding(2))


def test_no_such_model():
    with pytest.raises(FileNotFoundError, match="no such folder"):
        LocalBackend("/nowhere/model")


# -- images -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def eyes(tmp_path_factory, tokenizer_folder):
    """Save a tiny random LLaVA with its processor."""
    folder = tmp_path_factory.mktemp("eyes") / "llava"
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=vision,
        text_config=text_config(),
        image_token_index=2,
        tie_word_embeddings=True,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    size = {"height": 28, "width": 28}
    processor = LlavaProcessor(
        CLIPImageProcessor(size=size, crop_size=size),
        AutoTokenizer.from_pretrained(tokenizer_folder),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template="{% for m in messages %}{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}"
        "{% endfor %}{% endfor %}:",
    )
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def images(tmp_path):
    paths = []
    for n, colour in enumerate(["red", "green", "blue"]):
        paths.append(tmp_path / f"{n}.png")
        Image.new("RGB", (40 + n, 30), colour).save(paths[-1])
    return paths


def test_images_reach_the_model(eyes, images):
    backend = LocalBackend(str(eyes), batch_size=3, sees_images=True)
    together = ask(backend, ["a thing"] * 3, Decoding(12), images)
    alone = LocalBackend(str(eyes), batch_size=1, sees_images=True)
    assert together == ask(alone, ["a thing"] * 3, Decoding(12), images)
    assert len({answer.text for answer in together}) > 1  # the prompt is the same, the image not
    assert all(answer.prompt_tokens > 4 for answer in together)


def test_broken_image(eyes, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"bad\.png is not a readable image"):
        ask(LocalBackend(str(eyes), sees_images=True), ["a"], Decoding(2), [tmp_path / "bad.png"])


def test_images_and_profiles_by_local_models(arguments, toy, eyes, folder, tmp_path, images):
    (toy / "toy" / "images").mkdir()
    for n, path in enumerate(images):
        path.rename(toy / "toy" / "images" / f"i{n}.png")
    line = ["reason", *arguments, f"--model_name={folder}", f"--output={tmp_path / 'out'}"]
    line += ["--max_history=2", "--max_item_tokens=12", "--max_new_tokens=6", "--overlong=trim"]
    line += ["--profile_prompt", str(tmp_path / "p.txt")]
    (tmp_path / "p.txt").write_text("{items}:")
    line += ["--image_prompt", str(tmp_path / "i.txt")]
    (tmp_path / "i.txt").write_text("a {dataset}")
    assert main([*line, "--stage=images"]) == 2  # no model for them
    line += [f"--image_model={eyes}"]
    assert main([*line, "--stage=images"]) == 0
    assert main([*line, "--stage=profiles"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["stages"]["images"]["images"] == 3
    assert report["stages"]["profiles"]["users"] == 6
    assert report["stages"]["profiles"]["asked"] >= 6


# -- the embedded model -----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.llm
def test_embedded_model_killed_midway_goes_on(small_ml100k, tmp_path):
    if not (CACHE / "backbone").is_dir():
        load_tokenizer("smollm2-135m", cache_dir=CACHE)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "backbone").symlink_to(CACHE / "backbone")
    code = "import sys; from recbole_llm.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = ["--dataset=ml-100k", f"--data_path={small_ml100k}", "--stage=profiles"]
    words += [f"--cache_dir={cache}", f"--output={tmp_path / 'out'}", "--max_users=6"]
    words += ["--max_history=3", "--max_item_tokens=8", "--max_words=8", "--max_new_tokens=12"]
    words += ["--batch_size=1", "--overlong=trim", "--show_progress=false"]
    command = [sys.executable, "-c", code, "reason", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)

    def stored():
        if not (cache / "reason.sqlite").is_file():
            return 0
        with sqlite3.connect(cache / "reason.sqlite") as connection:
            tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
            query = "SELECT COUNT(*) FROM answers"
            return connection.execute(query).fetchone()[0] if tables else 0

    deadline = time.monotonic() + 240
    while stored() < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = stored()
    assert 2 <= before < 6
    assert subprocess.run(command, cwd=tmp_path, env=environment, timeout=300).returncode == 0
    stage = json.loads((tmp_path / "out" / "report.json").read_text())["stages"]["profiles"]
    assert (stage["from_store"], stage["asked"]) == (before, 6 - before)
    assert stage["profiled"] == 6 and stored() == 6
