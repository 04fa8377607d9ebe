"""Sweeps: selection by validation alone, failures, pruning, and workers that are killed."""

import math
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from small_sweep import write_grid, write_spec

from recbole_llm.cli.main import main
from recbole_llm.data.loading import Loaders
from recbole_llm.record import RunRecord
from recbole_llm.sweep.driver import sweep_spec
from recbole_llm.trainer import fit

DB = "sqlite:///runs/sweeps/t/studies.db"


def trials(name: str = "t/ml-100k/BPR", storage: str = DB) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=storage).trials


def test_the_best_on_validation_is_trained_with_every_seed_and_scored_on_test_once(
    work: Path, fakes: Any
) -> None:
    ran = fakes(lambda settings: settings["learning_rate"])
    text = sweep_spec(write_spec(work), say=lambda line: None).text
    assert [(it["learning_rate"], it["seed"], it["test"]) for it in ran] == [
        (0.001, 1, False),
        (0.01, 1, False),
        (0.1, 1, False),
        (0.1, 1, True),
        (0.1, 2, True),
    ]
    assert "chosen on validation: 0.1000 with {'learning_rate': 0.1}" in text
    assert "trials: 3 complete, of a budget of 3" in text and "final runs: 2 of 2" in text
    plots = {path.name for path in (work / "runs/sweeps/t/plots").iterdir()}
    assert {"t_ml-100k_BPR-history.pdf", "t_ml-100k_BPR-history.png"} <= plots
    sweep_spec(write_spec(work), say=lambda line: None)
    assert len(ran) == 5, "what is finished is not run again"


def test_a_rows_own_metric_chooses_its_settings(work: Path, fakes: Any) -> None:
    ran = fakes(lambda settings: settings["learning_rate"])
    rows = [{"model": "BPR", "metric": "NDCG@10"}]
    text = sweep_spec(write_spec(work, models=None, rows=rows), say=lambda line: None).text
    assert [each["learning_rate"] for each in ran if each["test"]] == [0.001, 0.001]
    assert {each["valid_metric"] for each in ran} == {"NDCG@10"}
    assert "chosen on validation: -0.0010" in text


class Forbidden:
    """A loader of the test part that must not be read."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("the test part was read")

    def __iter__(self) -> Any:
        raise RuntimeError("the test part was read")


def test_trials_never_read_the_test_part(
    work: Path, small_ml100k: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = fit.build_loaders

    def without_test(*arguments: Any) -> Loaders:
        return build(*arguments)._replace(test=Forbidden())  # type: ignore[arg-type]

    monkeypatch.setattr(fit, "build_loaders", without_test)
    path = write_spec(work, space={"learning_rate": [0.01, 0.1]}, seeds=[1])
    text = sweep_spec(path, overrides={"data_path": str(small_ml100k)}, say=lambda line: None).text
    assert "trials: 2 complete" in text
    assert "final runs: 0 of 1" in text and "RuntimeError: the test part was read" in text
    records = [RunRecord.load(it) for it in (work / "runs/sweeps/t").glob("*/record.json")]
    assert len(records) == 2
    for record in records:
        assert list(record.metrics) == ["valid"] and record.status == "finished"
        assert record.origin["kind"] == "trial" and record.origin["row"] == "BPR"
    assert not list((work / "saved" / "sweeps").iterdir()), "trials leave no weights"


def test_a_trial_that_raises_gives_nan_or_runs_out_of_memory(work: Path, fakes: Any) -> None:
    def value(settings: dict[str, Any]) -> float:
        if settings["learning_rate"] == 0.001:
            raise MemoryError("no more")
        return math.nan if settings["learning_rate"] == 0.01 else 0.5

    fakes(value)
    lines: list[str] = []
    text = sweep_spec(write_spec(work), say=lines.append).text
    found = [(t.state.name, t.user_attrs.get("error")) for t in trials()]
    assert found == [
        ("FAIL", "MemoryError: no more"),
        ("FAIL", "ValueError: the validation metric is nan"),
        ("COMPLETE", None),
    ]
    assert "trials: 1 complete, 2 fail, of a budget of 3" in text
    assert "error: MemoryError: no more" in text
    assert any("1/3  trial 0: failed: MemoryError: no more  no best yet" in it for it in lines)


def test_nothing_is_chosen_when_all_fail(work: Path, fakes: Any) -> None:
    ran = fakes(lambda settings: math.nan)
    summary = sweep_spec(write_spec(work), say=lambda line: None)
    assert "no final runs: no trial finished" in summary.text and not summary.complete
    assert len(ran) == 3


def test_pruning_by_the_validation_of_each_epoch(work: Path, fakes: Any) -> None:
    fakes(lambda settings: -settings["learning_rate"])
    search = {"sampler": "grid", "pruner": "median", "startup_trials": 1}
    text = sweep_spec(write_spec(work, search=search), say=lambda line: None).text
    assert [t.state.name for t in trials()] == ["COMPLETE", "PRUNED", "PRUNED"]
    assert trials()[1].intermediate_values == {0: -0.01}
    assert "1 complete, 2 pruned" in text and "with {'learning_rate': 0.001}" in text


def test_a_pruned_run_is_recorded_as_stopped(work: Path, small_ml100k: Path) -> None:
    search = {"sampler": "grid", "pruner": "median", "startup_trials": 1}
    path = write_spec(work, search=search, space={"learning_rate": [0.05, 1e-9]}, seeds=[1])
    sweep_spec(path, overrides={"data_path": str(small_ml100k)}, say=lambda line: None)
    records = [RunRecord.load(it) for it in (work / "runs/sweeps/t").glob("*/record.json")]
    by_rate = {it.config["learning_rate"]: it for it in records}
    assert by_rate[0.05].status == "finished"
    assert by_rate[1e-9].status == "stopped" and "pruned after epoch 0" in by_rate[1e-9].error


def test_interrupted_trials_are_run_again(work: Path, fakes: Any) -> None:
    calls: list[float] = []

    def value(settings: dict[str, Any]) -> float:
        calls.append(settings["learning_rate"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return 0.5

    fakes(value)
    assert main(["sweep", str(write_spec(work))]) == 130
    assert main(["sweep", str(write_spec(work))]) == 0
    assert calls[:4] == [0.001, 0.01, 0.1, 0.01]
    assert [t.state.name for t in trials()] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


def test_a_grid_of_points_is_run_with_every_seed_and_without_test(work: Path, fakes: Any) -> None:
    ran = fakes(lambda settings: settings["learning_rate"])
    path = write_grid(work, 0.1, 0.2)
    sweep_spec(path, say=lambda line: None)
    found = [(it["learning_rate"], it["seed"], it["test"]) for it in ran]
    assert found == [(0.1, 1, False), (0.1, 2, False), (0.2, 1, False), (0.2, 2, False)]


@pytest.mark.parametrize(
    ("over", "arguments", "message"),
    [
        ({}, ["--epochs=3"], "--epochs would change the experiment"),
        ({}, ["--resume"], "--resume would change the experiment"),
        ({}, ["--workers=0"], "--workers must be an integer >= 1"),
        (
            {"space": {"lerning_rate": [1]}},
            [],
            "rows[0] (BPR) on ml-100k, space.lerning_rate=1: unknown key 'lerning_rate'",
        ),
        (
            {"space": {"learning_rate": {"float": [0, 0.1], "step": 0.1}}},
            [],
            "rows[0] (BPR) on ml-100k, space.learning_rate=0.0: learning_rate must be",
        ),
        (
            {"space": {"epochs": {"int": [1, 2]}, "eval_step": {"choice": [1, 2, -1]}}},
            [],
            "space.eval_step=-1: eval_step must be an integer >= 0",
        ),
        (
            {"models": ["LightGCN", "BPR"], "space": {"n_layers": [1, 2]}},
            [],
            "rows[1] (BPR) on ml-100k, space.n_layers=1: unknown key 'n_layers'",
        ),
        (
            {"tables": [{"metrics": ["recall@50"]}]},
            [],
            "tables[0].metrics: 'recall@50' is not measured; set `metrics` and `topk`",
        ),
        ({"settings": {"epoch": 1}}, [], "unknown key 'epoch'"),
        ({"models": ["BRP"]}, [], "unknown model 'BRP'"),
    ],
)
def test_errors_show_before_any_trial(
    over: dict[str, Any],
    arguments: list[str],
    message: str,
    work: Path,
    fakes: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran = fakes(lambda settings: 0.5)
    assert main(["sweep", str(write_spec(work, **over)), *arguments]) == 2
    assert message in capsys.readouterr().err and not ran


def wait_for(condition: Callable[[], bool], seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "timed out"
        time.sleep(0.1)


def states() -> list[TrialState]:
    try:
        return [t.state for t in trials()]
    except (KeyError, optuna.exceptions.StorageInternalError):
        return []


def test_a_killed_worker_loses_nothing_finished_and_repeats_nothing(
    cli: Any, small_ml100k: Path
) -> None:
    Path("runs/sweeps/t").mkdir(parents=True)
    path = write_spec(cli.work, settings={"epochs": 8, "train_batch_size": 256}, seeds=[1])
    line = ["sweep", str(path), f"--data_path={small_ml100k}", "--heartbeat_s=1"]
    worker = subprocess.Popen(
        cli.command("recbole_llm", *line),
        cwd=cli.work,
        env=cli.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: states()[:2] == [TrialState.COMPLETE, TrialState.RUNNING])
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    before = trials()
    assert main([*line, "--workers=1"]) == 0
    after = trials()
    assert after[0] == before[0], "what was finished is untouched"
    assert after[1].state == TrialState.FAIL
    retried = [t for t in after[2:] if t.params == before[1].params]
    assert len(retried) == 1 and retried[0].state == TrialState.COMPLETE
    complete = [t.params["learning_rate"] for t in after if t.state == TrialState.COMPLETE]
    assert sorted(complete) == [0.001, 0.01, 0.1]


def test_two_local_workers(cli: Any, small_ml100k: Path) -> None:
    path = write_spec(cli.work)
    line = ["sweep", str(path), f"--data_path={small_ml100k}", "--workers=2"]
    done = cli(*line, program="recbole_llm")
    assert done.returncode == 0, done.stderr
    assert [t.state for t in trials()] == [TrialState.COMPLETE] * 3
    assert "trials: 3 complete, of a budget of 3" in done.stdout
    assert "final runs: 2 of 2" in done.stdout
    finals = [RunRecord.load(it) for it in (cli.work / "runs").glob("2*/record.json")]
    assert sorted(it.seed for it in finals) == [1, 2]
    assert all(it.origin["budget"]["n_trials"] == 3 for it in finals)
