"""``sweep`` exits with 0 only if every row has its final runs; the summary is printed anyway."""

import math
from pathlib import Path
from typing import Any

import pytest
from small_sweep import write_grid, write_spec

from recbole_llm.cli.main import main


def test_a_row_without_a_finished_trial(
    work: Path, fakes: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fakes(lambda settings: math.nan if settings["train_batch_size"] == 1 else 0.5)
    rows = [
        {"model": "BPR", "settings": {"train_batch_size": 1}},
        {"model": "BPR", "label": "second", "settings": {"train_batch_size": 2}},
    ]
    path = write_spec(work, models=None, rows=rows, settings={"epochs": 1})
    assert main(["sweep", str(path)]) == 1
    output = capsys.readouterr().out
    assert "trials: 3 fail, of a budget of 3" in output and "no final runs" in output
    assert "error: ValueError: the validation metric is nan" in output
    assert "final runs: 2 of 2" in output, "the other row"
    assert main(["sweep", str(path)]) == 1, "nothing is left to run, and nothing has changed"


def test_a_final_run_that_failed(
    work: Path, fakes: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fakes(lambda settings: math.nan if settings["seed"] == 2 else 0.5)
    assert main(["sweep", str(write_grid(work, 0.1, seeds=[1, 2]))]) == 1
    assert "final runs: 1 of 2" in capsys.readouterr().out
    assert main(["sweep", str(write_grid(work, 0.1, seeds=[1]))]) == 0


def test_a_time_budget_without_a_result(work: Path, fakes: Any) -> None:
    ran = fakes(lambda settings: math.nan)
    search = {"sampler": "grid", "timeout_s": 1e-9}
    assert main(["sweep", str(write_spec(work, search=search))]) == 1 and len(ran) == 1


@pytest.mark.parametrize("metric", ["ndcg", "recall", "NDCG"])
def test_a_metric_without_a_cut_off_is_refused_before_any_trial(
    metric: str, work: Path, fakes: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = fakes(lambda settings: 0.5)
    assert main(["sweep", str(write_spec(work, metric=metric))]) == 2 and not ran
    assert "has no cut-off; choose one of" in capsys.readouterr().err
    tables = [{"metrics": [metric]}]
    assert main(["sweep", str(write_spec(work, tables=tables))]) == 2 and not ran
    assert f"tables[0].metrics: {metric.lower()!r} is not measured" in capsys.readouterr().err
