"""A tiny data set, a tiny tokenizer, a server that can misbehave, and the command itself."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import Server
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from recbole_llm.cli.main import main

N_USERS, N_ITEMS, PER_USER = 6, 12, 6


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a byte-level tokenizer trained on a few words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<eos>", "<image>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(["a green thing number one two likes Item"] * 5, trainer)
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>"
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Write the data set ``toy``; returns its ``data_path``.

    User u has items u, u + 1, ... with times that go against the order of the file's rows.
    """
    folder = tmp_path / "dataset" / "toy"
    folder.mkdir(parents=True)
    rows = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(N_USERS):
        for n in reversed(range(PER_USER)):
            rows.append(f"u{user}\ti{(user + n) % N_ITEMS}\t{1000 * n}")
    (folder / "toy.inter").write_text("\n".join(rows) + "\n")
    lines = ["item_id:token\ttitle:token_seq\tbrand_id:token\tcolour:token\tprice:float"]
    lines += [f"i{n}\tItem {n}\tb{n}\tgreen\t{n}.5" for n in range(N_ITEMS)]
    (folder / "toy.item").write_text("\n".join(lines) + "\n")
    return tmp_path / "dataset"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def arguments(toy: Path, tokenizer_folder: Path, work: Path) -> list[str]:
    """Return what every run on the toy data needs."""
    return [
        "--dataset=toy",
        f"--data_path={toy}",
        "--load_col={'inter': ['user_id', 'item_id', 'timestamp']}",
        "--protocol=loo",
        "--show_progress=false",
        "--state=ERROR",
    ]


@pytest.fixture
def reasoner(
    arguments: list[str], server: Server, tokenizer_folder: Path, tmp_path: Path
) -> Callable[..., int]:
    """Return a function that runs ``recbole_llm reason`` against the server."""

    def call(*options: str, **replaced: Any) -> int:
        given = {
            "stage": "profiles",
            "backend": "openai",
            "model_name": "toy-model",
            "base_url": server.url,
            "tokenizer": str(tokenizer_folder),
            "output": str(tmp_path / "out"),
            "concurrency": 2,
            "backoff_s": 0.01,
            "timeout_s": 5,
            **replaced,
        }
        words = [f"--{name}={value}" for name, value in given.items()]
        return main(["reason", *arguments, *words, *options])

    return call


@pytest.fixture
def auditor(arguments: list[str], tmp_path: Path) -> Callable[..., int]:
    """Return a function that audits what ``reason`` wrote."""

    def call(*options: str, profiles: Path = tmp_path / "out") -> int:
        return main(["audit", *arguments, f"--profiles={profiles}", *options])

    return call
