"""The command line: what it takes, what it prints, and how it ends."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import recbole_llm
from recbole_llm import cli as commands
from recbole_llm.cli import _COMMANDS, main, parse_settings, run_recbole, summary
from recbole_llm.record import RunRecord, Stage


@pytest.mark.parametrize(
    ("line", "settings"),
    [
        ("--epochs=3", {"epochs": 3}),
        ("--epochs 3", {"epochs": 3}),
        ("--resume", {"resume": True}),
        ("--resume --epochs=3", {"resume": True, "epochs": 3}),
        ("--resume=false", {"resume": False}),
        ("-m BPR -d ml-100k", {"model": "BPR", "dataset": "ml-100k"}),
        ("--model=BPR --dataset 2020", {"model": "BPR", "dataset": "2020"}),
        ("--graph_stage.epochs=5", {"graph_stage.epochs": 5}),
        ("--load_col={'inter':['a=b']}", {"load_col": {"inter": ["a=b"]}}),
        ("--seed=1 --seed=1", {"seed": 1}),
        ("--min_rating -1", {"min_rating": -1}),
        ("", {}),
    ],
)
def test_settings(line: str, settings: dict[str, Any]) -> None:
    assert parse_settings(line.split()) == settings


def test_value_with_spaces_is_one_argument() -> None:
    assert parse_settings(["--config_files=a.yaml b.yaml"]) == {"config_files": "a.yaml b.yaml"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--epochs=1 --epochs=2", "--epochs is given twice: 1 and 2"),
        ("-m BPR --model=SASRec", "--model is given twice: 'BPR' and 'SASRec'"),
        ("BPR", "unexpected argument 'BPR'; settings have the form --key=value"),
        ("--epochs=1 2", "unexpected argument '2'"),
        ("-x 3", "unexpected argument '-x'"),
        ("--", "unexpected argument '--'"),
    ],
)
def test_malformed_lines(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=message):
        parse_settings(line.split())
    assert run_recbole(line.split()) == 2
    assert message in capsys.readouterr().err


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
    monkeypatch.setattr(commands, "summary", lambda record: "")
    run_recbole(["--config_files=a.yaml b.yaml"])
    run_recbole(["--config_files", "['c d.yaml']"])
    assert seen[0] == ["a.yaml", "b.yaml"]


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ValueError("wrong value"), 2, "error: wrong value\n"),
        (FileNotFoundError("no file x"), 2, "error: no file x\n"),
        (ImportError("no peft"), 2, "error: no peft\n"),
        (NotImplementedError(), 2, "error: NotImplementedError\n"),
        (KeyboardInterrupt(), 130, "interrupted; the same command with --resume goes on\n"),
    ],
)
def test_exit_status(
    error: BaseException,
    status: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("recbole_llm.quick_start.run", run)
    assert run_recbole(["-m", "BPR"]) == status
    assert capsys.readouterr().err == text


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise KeyError("bug")

    monkeypatch.setattr("recbole_llm.quick_start.run", run)
    with pytest.raises(KeyError):
        run_recbole(["-m", "BPR"])


def test_traceback_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECBOLE_LLM_TRACEBACK", "1")
    assert run_recbole(["x"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_tools_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "verify" in capsys.readouterr().out


@pytest.mark.parametrize("command", [name for name in _COMMANDS if name != "run"])
def test_every_tool_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"usage: recbole_llm {command} " in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["verify"], ["verify", "x", "--data=y"]])
def test_tools_refuse_other_words(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2


def test_an_unknown_tool_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verfy"]) == 2
    assert "did you mean 'verify'?" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["verify", "sweep", "report", "reason"])
def test_help_of_a_tool_does_not_import_torch(command: str) -> None:
    code = (
        f"import sys\nfrom recbole_llm.cli import main\ntry: main([{command!r}, '--help'])\n"
        "except SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_tools_run_is_run_recbole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--version"]) == 0
    assert capsys.readouterr().out.startswith("recbole-llm ")


def test_verify_of_nothing(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "runs/none"]) == 2
    assert "no run record at runs/none" in capsys.readouterr().err


def test_summary_shows_metrics_stages_and_place() -> None:
    record = RunRecord("id", "HeLLM", "sports", "loo", 7, {}, "hash", "runs/id")
    record.metrics = {
        "valid": {"recall@10": 0.5},
        "test": {"recall@20": 0.25, "ndcg@10": 0.125, "hit@5": 1.0, "mrr@5": 0.0},
    }
    record.stages = [
        Stage("data", 1.25, 2**20),
        Stage("graph", 0.5, 3 * 2**20, 1000, 4000, cached_from_s=61.0),
    ]
    text = summary(record)
    assert "HeLLM on sports (loo, seed 7)" in text
    assert "valid  R@10 0.5000\n" in text
    assert "test   R@20 0.2500  N@10 0.1250  H@5 1.0000  mrr@5 0.0000\n" in text
    assert "0.5 (cached; 61.0)" in text and "1,000 (25.00%)" in text
    assert text.endswith("record: runs/id/record.json")


def test_a_users_error_in_a_process_of_its_own(cli: Any) -> None:
    done = cli("--model=BPR", "--dataset=ml-100")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert "no folder dataset/ml-100" in done.stderr
    assert "Wanted there: ml-100.inter" in done.stderr
    assert "Did you mean 'ml-100k'?" in done.stderr
