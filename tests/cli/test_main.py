"""Commands, and how they end: exit statuses, Ctrl-C, one line for a user's error, fast help."""

import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from recbole_llm.cli.main import COMMANDS, main, run_recbole, run_sweep

HEAVY = ("torch", "optuna", "transformers", "recbole", "pandas")


def raise_in(monkeypatch: pytest.MonkeyPatch, function: str, error: BaseException) -> None:
    """Let a function of the library raise an error."""

    def call(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(function, call)


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ValueError("wrong value"), 2, "error: wrong value\n"),
        (FileNotFoundError("no file x"), 2, "error: no file x\n"),
        (ImportError("no peft"), 2, "error: no peft\n"),
        (NotImplementedError(), 2, "error: NotImplementedError\n"),
        (
            KeyboardInterrupt(),
            130,
            "interrupted; the same command with --resume continues the run\n",
        ),
    ],
)
def test_exit_status(
    error: BaseException,
    status: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raise_in(monkeypatch, "recbole_llm.quick_start.run", error)
    assert run_recbole(["-m", "BPR"]) == status
    assert capsys.readouterr().err == text


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    raise_in(monkeypatch, "recbole_llm.quick_start.run", KeyError("bug"))
    with pytest.raises(KeyError):
        run_recbole(["-m", "BPR"])


def test_traceback_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECBOLE_LLM_TRACEBACK", "1")
    assert run_recbole(["x"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "function", "text"),
    [
        (
            "encode --dataset=d --modality=text",
            "recbole_llm.data.freeze.data_config",
            "interrupted; finished work is kept, and the same command resumes\n",
        ),
        (
            "reason --dataset=d",
            "recbole_llm.profiles.write.write_profiles",
            "interrupted; answers so far are kept, and the same command resumes\n",
        ),
        (
            "prepare movielens --size=100k",
            "recbole_llm.prepare.build.prepare_dataset",
            "interrupted; the same command resumes, and keeps the files that were fetched\n",
        ),
        (
            "sweep a.yaml",
            "recbole_llm.sweep.driver.sweep_spec",
            "interrupted; the same command resumes the sweep\n",
        ),
        (
            "verify runs/x",
            "recbole_llm.runs.verify.verify_run",
            "interrupted; the same command starts again\n",
        ),
    ],
)
def test_ctrl_c_says_what_the_same_command_does_next(
    words: str,
    function: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raise_in(monkeypatch, function, KeyboardInterrupt())
    assert main(words.split()) == 130
    assert capsys.readouterr().err == text


def test_a_sweep_whose_workers_died_has_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raise_in(
        monkeypatch, "recbole_llm.sweep.driver.sweep_spec", RuntimeError("all 2 workers ended")
    )
    assert run_sweep(["a.yaml"]) == 1
    assert capsys.readouterr().err == "error: all 2 workers ended\n"


def test_overview_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([], ["--help"], ["-h"]):
        assert main(argv) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines if line.startswith("  ")] == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_help_arguments_and_run(command: str) -> None:
    module = import_module(f"recbole_llm.cli.{command.replace('-', '_')}")
    defined = {
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", module.__name__) == module.__name__
        and not name.startswith("_")
        and type(value).__name__ != "module"
    }
    assert defined - {"TYPE_CHECKING"} == {"HELP", "add_arguments", "run"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    program = "run_recbole" if command == "run" else f"recbole_llm {command}"
    assert capsys.readouterr().out.startswith(f"usage: {program} ")


@pytest.mark.parametrize("words", ["", *(f"{command} --help" for command in COMMANDS), "vrify"])
def test_help_and_mistakes_import_nothing_heavy(words: str) -> None:
    code = (
        f"import sys\nfrom recbole_llm.cli.main import main\nmain({words.split()!r})\n"
        f"found = set({HEAVY!r}) & set(sys.modules)\nassert not found, found"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("verify", "the following arguments are required: run (see `recbole_llm verify --help`)"),
        ("verify x --data=y", "unexpected argument '--data=y'; this command takes no settings"),
        ("split --dataset=d", "the following arguments are required: --protocol"),
        ("sweep a.yaml --workers=two", "argument --workers: invalid int value: 'two'"),
        ("prepare movilens", "argument SOURCE: invalid choice: 'movilens'"),
        ("prepare movielens --size=100k --sise=1", "unexpected argument '--sise=1'"),
        ("encode --dataset=d", "the following arguments are required: --modality"),
    ],
)
def test_a_wrong_line_is_one_line_and_status_2(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ")
    assert message in captured.err and captured.err.count("\n") == 1


def test_an_unknown_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verfy"]) == 2
    message = capsys.readouterr().err
    assert "no command 'verfy'. Did you mean 'verify'?" in message and "plot-embeddings" in message


def test_verify_of_nothing(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "runs/none"]) == 2
    assert "no run record at runs/none" in capsys.readouterr().err


def test_a_new_command_is_a_file_and_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "toy.py").write_text(
        "HELP = 'a toy'\n"
        "def add_arguments(parser):\n    parser.add_argument('--size', type=int)\n"
        "def run(arguments, rest):\n    print(arguments.size, rest)\n    return 1\n"
    )
    package = import_module("recbole_llm.cli")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    monkeypatch.setattr("recbole_llm.cli.main.COMMANDS", (*COMMANDS, "toy"))
    assert main(["toy", "--size=3", "--seed=1"]) == 1
    assert capsys.readouterr().out == "3 ['--seed=1']\n"
    assert main([]) == 0
    assert "  toy              a toy\n" in capsys.readouterr().out


def test_ctrl_c_in_a_process_of_its_own(work: Path) -> None:
    """A signal ends the command with its text and status 130, without a traceback."""
    code = (
        "import sys, threading\nfrom recbole_llm.runs import verify\n"
        "from recbole_llm.cli.main import main\n"
        "def wait(*_):\n    print('waiting', flush=True)\n    threading.Event().wait()\n"
        "verify.verify_run = wait\nsys.exit(main(['verify', 'x']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs ignore Ctrl-C, and so would their children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None and process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "interrupted; the same command starts again\n"
