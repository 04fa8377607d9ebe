"""A small shop with text, images and URLs, tiny vision models, and the command itself."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from image_server import ImageServer
from shop import Shop, png

from recbole_llm.cli.main import main

COMMAND = "import sys; from recbole_llm.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "dataset")


@pytest.fixture
def options(shop: Shop, tmp_path: Path) -> list[str]:
    """Return what every run on the shop needs."""
    return [
        "--dataset=shop",
        f"--data_path={shop.data_path}",
        f"--cache_dir={tmp_path / 'cache'}",
        "--load_col={'inter': ['user_id', 'item_id', 'timestamp']}",
        "--show_progress=false",
    ]


@pytest.fixture
def command(options: list[str]) -> Callable[..., int]:
    """Return a function that runs ``recbole_llm encode`` on the shop."""
    return lambda modality, *more: main(["encode", *options, f"--modality={modality}", *more])


@pytest.fixture
def starter(options: list[str], tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Return a function that starts the command in a process of its own."""

    def call(modality: str, *more: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, "encode", *options, f"--modality={modality}", *more],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
            # a shell's background jobs ignore Ctrl-C, and so would their children
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    return call


@pytest.fixture
def server() -> Iterator[ImageServer]:
    server = ImageServer(png())
    yield server
    server.close()


TOWER = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a random CLIP with projections of 12."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1}
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny-clip")
    CLIPModel(CLIPConfig(text_config=text, vision_config=TOWER, projection_dim=12)).save_pretrained(
        folder
    )
    CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    return str(folder)


def save_vit(folder: Path, has_pooler: bool) -> str:
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    torch.manual_seed(1)
    ViTModel(ViTConfig(**TOWER), add_pooling_layer=has_pooler).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a random ViT with a pooler."""
    return save_vit(tmp_path_factory.mktemp("tiny-vit"), has_pooler=True)


@pytest.fixture(scope="session")
def tiny_dino(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a random ViT whose checkpoint has no pooler, as DINO's."""
    return save_vit(tmp_path_factory.mktemp("tiny-dino"), has_pooler=False)
