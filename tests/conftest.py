"""What every test may use: one thread, a small copy of ml-100k, and the command line."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import pytest
import recbole
import torch

import recbole_llm
from recbole_llm.record import RunRecord

N_USERS = 120


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep torch to one thread, so that parallel tests do not fight for the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_ml100k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write users 1 to 120 of the ml-100k that RecBole ships; returns the ``data_path``.

    Read-only: the folder is shared by all tests. Use ``own_ml100k`` to change a file.
    """
    return write_small_ml100k(tmp_path_factory.mktemp("small") / "dataset")


@pytest.fixture
def own_ml100k(tmp_path: Path) -> Path:
    """Return the ``data_path`` of a copy of ``small_ml100k`` that the test may change."""
    return write_small_ml100k(tmp_path / "dataset")


def write_small_ml100k(data_path: Path) -> Path:
    """Write ``data_path/ml-100k`` with the first users and the items they rated."""
    shipped = Path(recbole.__file__).parent / "dataset_example" / "ml-100k"
    folder = data_path / "ml-100k"
    folder.mkdir(parents=True)
    items = set()
    for suffix in ("inter", "user", "item"):
        name = f"ml-100k.{suffix}"
        header, *lines = (shipped / name).read_text(encoding="utf-8").splitlines()
        if suffix == "item":
            lines = [line for line in lines if line.split("\t")[0] in items]
        else:
            lines = [line for line in lines if int(line.split("\t")[0]) <= N_USERS]
        if suffix == "inter":
            items = {line.split("\t")[1] for line in lines}
        (folder / name).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return data_path


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the test in its own temporary folder, where runs, logs and checkpoints go."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def runner(work: Path, small_ml100k: Path) -> Callable[..., RunRecord]:
    """Return a function that trains one quiet epoch on ``small_ml100k``; its folder is ``work``."""

    def call(model: str, dataset: str = "ml-100k", **settings: Any) -> RunRecord:
        quiet = {"show_progress": False, "state": "WARNING", "torch_threads": 1}
        defaults = {"data_path": str(small_ml100k), "epochs": 1, **quiet}
        return recbole_llm.run(model, dataset, **{**defaults, **settings})

    return call


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a random two-layer Llama and of a tokenizer with a few words."""
    words = ["Purchase", "history", "Next", "purchase", ":"]
    return write_llama(tmp_path_factory.mktemp("tiny-llm"), words)


@pytest.fixture(scope="session")
def lettered_llm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a random two-layer Llama with a tied head, to which letters are tokens."""
    words = ["Items", "user", "Candidates", "Letter", "next", "item", ":", "-", *ascii_uppercase]
    titles = [f"i{number}" for number in range(40)]
    folder = tmp_path_factory.mktemp("lettered-llm")
    return write_llama(folder, [*words, *titles], tie_word_embeddings=True)


def write_llama(folder: Path, words: list[str], **sizes: Any) -> str:
    """Write a random Llama and a tokenizer of these words, and return their folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    words = ["<s>", "</s>", "<unk>", *words]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    default = {
        "vocab_size": len(words),
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "pad_token_id": 1,
    }
    torch.manual_seed(0)
    model = LlamaModel(LlamaConfig(**{**default, **sizes}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(10)  # the default std of 0.02 would leave attention nearly uniform
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a random two-layer T5 and of a tokenizer that ends a text with ``</s>``."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5Model

    words = ["<pad>", "</s>", "<unk>", "User", "Item", "items", "users", "next", ":"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    config = T5Config(
        vocab_size=len(words) + 3,  # T5's table has more rows than its tokenizer has tokens
        d_model=16,
        d_kv=4,
        d_ff=24,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
        dropout_rate=0.0,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny-t5")
    T5Model(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    ).save_pretrained(folder)
    return str(folder)


class Cli:
    """The console scripts, each run in a process of its own whose folder is ``work``."""

    def __init__(self, work: Path) -> None:
        self.work = work

    def __call__(
        self,
        *arguments: str,
        program: str = "run_recbole",
        env: dict[str, str] | None = None,
        timeout: float = 300,
    ) -> "subprocess.CompletedProcess[str]":
        """Run to the end; output is text, with colours off."""
        return subprocess.run(
            self.command(program, *arguments),
            cwd=self.work,
            env=self.environment(env),
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start ``run_recbole`` and return at once; its output goes nowhere."""
        return subprocess.Popen(
            self.command("run_recbole", *arguments),
            cwd=self.work,
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @staticmethod
    def command(program: str, *arguments: str) -> list[str]:
        """Return the command line of a console script under this interpreter."""
        function = {"run_recbole": "run_recbole", "recbole_llm": "main"}[program]
        code = f"import sys; from recbole_llm.cli.main import {function}; sys.exit({function}())"
        return [sys.executable, "-c", code, *arguments]

    @staticmethod
    def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
        """Return this environment with one thread and no colours."""
        return os.environ | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"} | (extra or {})


@pytest.fixture
def cli(work: Path) -> Cli:
    """Return the console scripts; see ``Cli``."""
    return Cli(work)
