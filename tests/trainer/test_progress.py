"""Lines of progress: one an epoch in a pipe, with what somebody who waits wants to know."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recbole_llm.terminal import shows_bars
from recbole_llm.trainer import progress
from recbole_llm.trainer.progress import EpochLines, duration


def test_a_line_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 30.0, 60.0, 90.0])  # 30 seconds an epoch
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    lines = EpochLines(4, "Recall@20", patience=20)
    best: dict[str, Any] = {"score": 0.25, "epoch": 0, "n_without_gain": 0}
    first = lines.line({"epoch": 0, "loss": 0.5}, 0.25, best)
    assert first == "epoch 1/4  loss 0.5000  valid R@20 0.2500  best 0.2500 at 1  ETA 90 s"
    best["n_without_gain"] = 1
    second = lines.line({"epoch": 1, "loss": 0.125}, 0.2, best)
    assert second == (
        "epoch 2/4  loss 0.1250  valid R@20 0.2000  best 0.2500 at 1  1 of 20 without a gain  "
        "ETA 60 s"
    )
    assert lines.line({"epoch": 3, "loss": 0.1}, None, best) == "epoch 4/4  loss 0.1000"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5 s"), (99, "99 s"), (150, "2 min"), (5400, "90 min"), (9000, "2.5 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_bars_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not shows_bars(True)  # pytest catches the stream
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert shows_bars(True) and not shows_bars(False)


def test_a_pipe_gets_a_line_a_stage_and_epoch(
    cli: Callable[..., Any], small_ml100k: Path, tiny_llm: str, work: Path
) -> None:
    words = [
        "--model=HeLLM", "--dataset=ml-100k", f"--data_path={small_ml100k}", "--epochs=2",
        f"--llm_path={tiny_llm}", "--MAX_ITEM_LIST_LENGTH=5",
        "--train_batch_size=64", "--learning_rate=0.001", "--pool_dim=4", "--torch_threads=1",
        "--lora_targets=[gate_proj]", "--stopping_step=9",
        *(f"--{stage}_stage.epochs=1" for stage in ("graph", "sequence")),
    ]  # fmt: skip
    done = cli(*words)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert "\r" not in done.stderr and "\x1b" not in done.stderr
    heads = [line.split()[1:3] for line in lines]
    assert heads.count(["epoch", "1/1"]) == 2  # of each stage
    assert heads.count(["epoch", "1/2"]) == heads.count(["epoch", "2/2"]) == 1
    assert ["stage", "graph"] in heads and ["stage", "sequence"] in heads
    assert len(lines) < 15
    assert re.search(r"HeLLM on ml-100k \(loo, seed 2020\), cpu: runs/\d{8}-", lines[0])
    (log,) = work.glob("log/HeLLM/*.log")
    text = log.read_text()
    assert '"learning_rate": 0.001' in text and '"learning_rate"' not in done.stderr
    assert "\x1b" not in text
    quiet = cli(*words, "--seed=2021", "--quiet")
    assert quiet.returncode == 0 and "epoch" not in quiet.stderr and "R@20" in quiet.stdout


def test_verbose_shows_settings_and_data(cli: Callable[..., Any], small_ml100k: Path) -> None:
    words = ["--model=Pop", "--dataset=ml-100k", f"--data_path={small_ml100k}"]
    shown, plain = cli(*words, "--verbose"), cli(*words)
    assert shown.returncode == plain.returncode == 0
    assert "The number of users" in shown.stderr and '"seed": 2020' in shown.stderr
    assert "The number of users" not in plain.stderr
    both = cli(*words, "--quiet", "--verbose")
    assert both.returncode == 2 and both.stderr.count("\n") == 1
