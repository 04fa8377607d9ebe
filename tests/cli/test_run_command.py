"""``run_recbole``: its help, its lists, and what it passes on to a run."""

from pathlib import Path
from typing import Any

import pytest

import recbole_llm
from recbole_llm.cli.main import main, run_recbole


@pytest.mark.parametrize("argv", [["--help"], ["-h"], [], ["--model=BPR", "--help"]])
def test_help_shows_examples(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_recbole(argv) == 0
    out = capsys.readouterr().out
    assert "run_recbole --model=HeLLM --dataset=ml-100k" in out
    for option in ("--resume", "--protocol", "--config_files", "--save_topk", "--list-models"):
        assert option in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_recbole(["--version"]) == 0
    assert capsys.readouterr().out == f"recbole-llm {recbole_llm.__version__}\n"


def test_list_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_recbole(["--list-models"]) == 0
    ours, theirs = capsys.readouterr().out.split("RecBole's:")
    assert "HeLLM" in ours.split() and "SASRec" not in ours.split()
    assert {"BPR", "SASRec", "FM", "KGAT"} <= set(theirs.split())
    assert "LightGCN" in ours.split() and "LightGCN" not in theirs.split()


def test_list_datasets(small_ml100k: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_recbole(["--list-datasets", f"--data_path={small_ml100k}"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "ready" in lines["ml-100k"] and str(small_ml100k) in lines["ml-100k"]
    assert "no files" in lines["baby"]


def test_resume_is_a_flag_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def run(*names: str, **given: Any) -> None:
        seen.append({"names": names, **given})
        raise ValueError("seen enough")

    monkeypatch.setattr("recbole_llm.quick_start.run", run)
    line = "-m HeLLM -d ml-100k --config_files a.yaml --resume --graph_stage.epochs=2"
    assert run_recbole(line.split()) == 2
    assert seen == [
        {
            "names": ("HeLLM", "ml-100k"),
            "config_files": ["a.yaml"],
            "command_line": {"resume": True, "graph_stage.epochs": 2},
        }
    ]


def test_several_config_files(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def run(*_: str, **given: Any) -> None:
        seen.append(given["config_files"])

    monkeypatch.setattr("recbole_llm.quick_start.run", run)
    monkeypatch.setattr("recbole_llm.runs.summary.run_summary", lambda record: "")
    assert run_recbole(["--config_files=a.yaml b.yaml"]) == 0
    assert run_recbole(["--epochs=1"]) == 0
    assert seen == [["a.yaml", "b.yaml"], []]


def test_tools_run_is_run_recbole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--version"]) == 0
    assert capsys.readouterr().out.startswith("recbole-llm ")


def test_a_users_error_in_a_process_of_its_own(cli: Any) -> None:
    done = cli("--model=BPR", "--dataset=ml-100")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert "no folder dataset/ml-100" in done.stderr
    assert "Expected files: ml-100.inter" in done.stderr
    assert "Did you mean 'ml-100k'?" in done.stderr
