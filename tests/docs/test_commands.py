"""Every command of README.md and docs/ parses; those that need nothing from outside run."""

import argparse
import importlib
from pathlib import Path
from shutil import copytree

import doc_blocks
import pytest

import recbole_llm
from recbole_llm.cli.main import COMMANDS, main
from recbole_llm.cli.options import build_settings
from recbole_llm.cli.settings import parse_settings
from recbole_llm.config import Config
from recbole_llm.data.freeze import data_config

LISTED = list(doc_blocks.commands())
PYTHON = [
    block
    for block in doc_blocks.blocks()
    if block.language == "python" and not block.title and not block.reason
]


def by_place(command: doc_blocks.Command) -> str:
    return command.place


@pytest.fixture
def desk(work: Path, small_ml100k: Path) -> Path:
    """The folder of a reader: ``dataset/ml-100k`` is the small one, and the repository's files."""
    copytree(small_ml100k / "ml-100k", work / "dataset" / "ml-100k")
    for name in ("properties", "benchmarks"):
        (work / name).symlink_to(doc_blocks.ROOT / name)
    return work


def split(command: doc_blocks.Command) -> tuple[str, list[str]]:
    """Return the name of a command and the words after it."""
    program, *words = command.words
    if program == "recbole_llm":
        return words[0], words[1:]
    return {"run_recbole": "run", "run_sweep": "sweep"}[program], words


def parsed(name: str, words: list[str]) -> tuple[argparse.Namespace, dict[str, object]]:
    """Return the options and the settings of a command line."""
    assert name in COMMANDS
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    importlib.import_module(f"recbole_llm.cli.{name.replace('-', '_')}").add_arguments(parser)
    arguments, rest = parser.parse_known_args(words)
    return arguments, parse_settings(rest)


@pytest.mark.parametrize("command", LISTED, ids=by_place)
def test_options_and_settings_of_a_command_exist(command: doc_blocks.Command, desk: Path) -> None:
    name, words = split(command)
    arguments, settings = parsed(name, words)
    if name == "run":
        resolve_run(settings)
    elif name == "prepare":
        from recbole_llm.prepare.sources import SOURCES

        source = SOURCES[arguments.source]
        source.from_options({o.name: vars(arguments)[o.name] for o in source.options})
    elif name == "encode":
        from recbole_llm.features.settings import EncodeSettings

        build_settings(arguments, EncodeSettings)
    elif name == "reason":
        from recbole_llm.profiles.settings import ReasonSettings

        build_settings(arguments, ReasonSettings)
    elif name in ("sweep", "report"):
        from recbole_llm.sweep.spec import load_spec

        if arguments.spec.startswith("benchmarks/"):
            load_spec(arguments.spec, arguments.profile)
    else:
        plain = ("split", "inspect", "audit", "verify", "results", "plot-embeddings")
        assert name in (*plain, "runs", "recommend", "export", "serve")
    if name in ("split", "inspect", "audit", "encode", "reason"):
        data_config(arguments.dataset, None, settings)
    elif name not in ("run", "sweep"):
        assert not settings


def resolve_run(settings: dict[str, object]) -> None:
    """Resolve the settings of a run, which checks each key and value."""
    settings.pop("config_files", None)
    if "split" in settings:  # an earlier line of the page freezes it
        protocol = str(settings["split"])
        assert main(["split", f"--dataset={settings['dataset']}", f"--protocol={protocol}"]) == 0
    if not settings or str(settings["model"]).startswith("my_"):
        return
    config = Config(str(settings.pop("model")), str(settings.pop("dataset")), command_line=settings)
    assert all(config[key.split(".")[0]] is not None for key in settings)


def runs_offline(command: doc_blocks.Command) -> bool:
    """Tell whether a command needs only ml-100k and seconds."""
    name, words = split(command)
    small = "--dataset=ml-100k" in words
    return small and (name in ("split", "inspect") or "--model=LightGCN" in words)


OFFLINE = [command for command in LISTED if runs_offline(command)]


@pytest.mark.parametrize("command", OFFLINE, ids=by_place)
def test_commands_on_ml100k_run(command: doc_blocks.Command, desk: Path) -> None:
    name, words = split(command)
    quiet = ["--show_progress=false", "--torch_threads=1"] if name == "run" else []
    if name == "run" and not any(word.startswith("--epochs=") for word in words):
        quiet.append("--epochs=2")
    assert main([name, *words, *quiet]) == 0


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: f"{block.page}:{block.line}")
def test_python_blocks_run(block: doc_blocks.Block, desk: Path) -> None:
    exec(compile(block.body, f"{block.page}:{block.line}", "exec"), {"__name__": "__main__"})


def test_pages_have_commands_of_each_kind() -> None:
    """The collection finds what the pages show, so that no test above is empty."""
    names = {split(command)[0] for command in LISTED}
    assert set(COMMANDS) <= names
    assert {split(command)[0] for command in OFFLINE} == {"split", "inspect", "run"}
    assert len(PYTHON) >= 2


def test_model_of_the_page_on_own_models_learns(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [b for b in doc_blocks.blocks() if b.page == "docs/own-model.md" and b.title]
    for block in files:
        path = desk / block.title
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.body, encoding="utf-8")
    monkeypatch.syspath_prepend(str(desk))
    (command,) = [c for c in LISTED if c.place.startswith("docs/own-model.md")]
    _, words = split(command)
    settings = parse_settings([*words, "--show_progress=false", "--learning_rate=0.05"])
    record = recbole_llm.run(
        str(settings.pop("model")), str(settings.pop("dataset")), command_line=settings
    )
    losses = [epoch["loss"] for epoch in record.epochs]
    assert losses[-1] < 0.5 * losses[0]
