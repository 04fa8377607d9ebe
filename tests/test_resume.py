"""A killed run goes on as if nothing had happened."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from recbole_llm.cli.main import run_recbole
from recbole_llm.locks import only_writer
from recbole_llm.record import RunRecord, find_unfinished
from recbole_llm.trainer import harness, saving
from recbole_llm.trainer.checkpoint import load_checkpoint, save_checkpoint
from recbole_llm.trainer.harness import HarnessMixin

Train = Callable[..., RunRecord]


def losses(record: RunRecord) -> list[float]:
    return [entry["loss"] for entry in record.epochs]


def validations(record: RunRecord) -> list[dict[str, float]]:
    return [entry["valid"] for entry in record.epochs]


def wait_for_log(work: Path, text: str, process: Any, timeout: float = 240) -> None:
    """Wait until the only run's log holds ``text``."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if any(text in path.read_text() for path in work.glob("log/*/*.log")):
            return
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    raise AssertionError(f"{text!r} was not logged in {timeout} s")


@pytest.mark.parametrize("model", ["LightGCN", "BPR"])
def test_killed_and_resumed_equals_uninterrupted(
    model: str, cli: Any, runner: Train, small_ml100k: Path
) -> None:
    settings = {"epochs": 12, "checkpoint_s": 0, "train_batch_size": 128, "learning_rate": 0.01}
    options = [f"--{key}={value}" for key, value in settings.items()]
    process = cli.start(
        *[f"--model={model}", "--dataset=ml-100k", f"--data_path={small_ml100k}", *options],
        "--torch_threads=1",
    )
    try:
        wait_for_log(cli.work, "epoch 4/", process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (path,) = (cli.work / "runs").iterdir()
    killed = RunRecord.load(path)
    assert killed.status == "running" and killed.epochs == []

    half = cli.work / "saved" / killed.id / ".last.pth.1.partial"
    half.write_bytes(b"half of a state, as a kill while saving leaves it")
    resumed = runner(model, **settings, resume=True, state="INFO")
    assert (cli.work / resumed.folder).samefile(path), "the same run goes on"
    assert "resumed after epoch" in (cli.work / resumed.files["log"]).read_text()
    assert resumed.status == "finished" and resumed.started == killed.started
    assert [stage.name for stage in resumed.stages] == ["data", "training", "evaluation"]
    assert list((cli.work / "saved" / resumed.id).iterdir()) == [
        cli.work / "saved" / resumed.id / "best.pth"
    ], "only the chosen weights stay"

    whole = runner(model, **settings)
    assert whole.id != resumed.id
    assert losses(resumed) == losses(whole) and len(losses(whole)) == 12
    assert validations(resumed) == validations(whole)
    assert resumed.best_epoch == whole.best_epoch
    assert resumed.metrics == whole.metrics


class Stop(BaseException):
    """Ends a run as a kill would: nothing catches it but the record."""


def stop_after(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    save = HarnessMixin._save_last

    def save_and_stop(self: Any, nth: int, *rest: Any, **named: Any) -> None:
        save(self, nth, *rest, **named)
        if nth == epoch:
            raise Stop

    monkeypatch.setattr(HarnessMixin, "_save_last", save_and_stop)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("SASRecCausal", {"n_layers": 1, "inner_size": 32, "epochs": 3}),
        ("RecVAE", {}),
        ("MultiVAE", {"train_batch_size": 16}),
        ("BPR", {"train_neg_sample_args": {"distribution": "popularity", "sample_num": 2}}),
        ("LightGCN", {"lr_schedule": "cosine", "learner": "adamw"}),
        ("LightGCN", {"learning_rate": 1.0, "stopping_step": 1, "epochs": 6}),  # stops early
    ],
)
def test_every_kind_of_training_resumes_exactly(
    model: str, settings: dict[str, Any], runner: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"epochs": 4, "checkpoint_s": 0, "learning_rate": 0.01, **settings}
    whole = runner(model, **settings)
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        with pytest.raises(Stop):
            runner(model, **settings)
    np.random.rand(7)  # another process would be in another state
    resumed = runner(model, **settings, resume=True)
    assert resumed.id != whole.id
    assert losses(resumed) == losses(whole)
    assert resumed.best_epoch == whole.best_epoch and resumed.metrics == whole.metrics


def test_training_seconds_of_both_parts_are_added(
    runner: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        with pytest.raises(Stop):
            runner("BPR", epochs=3, checkpoint_s=0)
    before = RunRecord.load(next(Path("runs").iterdir()))
    record = runner("BPR", epochs=3, checkpoint_s=0, resume=True)
    seconds = [stage.seconds for stage in before.stages]
    assert all(now.seconds > was for now, was in zip(record.stages, seconds, strict=False))


def test_killed_after_the_last_epoch_only_evaluates(
    runner: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("recbole_llm.quick_start.evaluate", lambda *_: (_ for _ in ()).throw(Stop()))
        with pytest.raises(Stop):
            runner("BPR", epochs=2)
        patch.undo()
        patch.setattr(HarnessMixin, "_one_epoch", lambda *_: pytest.fail("trained again"))
        record = runner("BPR", epochs=2, resume=True)
    assert len(record.epochs) == 2
    assert record.metrics == runner("BPR", epochs=2).metrics


def test_nothing_to_resume_starts_anew(runner: Train, work: Path) -> None:
    record = runner("Pop", resume=True, state="INFO")
    assert record.status == "finished"
    log = (work / record.files["log"]).read_text()
    assert "no unfinished run of these settings; starting a new one" in log


def test_a_finished_run_and_other_settings_are_not_resumed(
    runner: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = runner("BPR")
    assert runner("BPR", resume=True).id != first.id
    with monkeypatch.context() as patch:
        stop_after(0, patch)
        with pytest.raises(Stop):
            runner("BPR", epochs=2, checkpoint_s=0)
    assert runner("BPR", epochs=2, learning_rate=0.5, resume=True).epochs[0]["epoch"] == 0
    statuses = [RunRecord.load(path).status for path in Path("runs").iterdir()]
    assert sorted(statuses) == ["failed", "finished", "finished", "finished"]


def test_a_dataset_name_with_odd_characters_is_found_again(
    runner: Train, own_ml100k: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "my [data]"
    (own_ml100k / "ml-100k").rename(own_ml100k / name)
    (own_ml100k / name / "ml-100k.inter").rename(own_ml100k / name / f"{name}.inter")
    with monkeypatch.context() as patch:
        stop_after(0, patch)
        with pytest.raises(Stop):
            runner("BPR", name, data_path=str(own_ml100k), epochs=2, checkpoint_s=0)
    runner("BPR", name, data_path=str(own_ml100k), epochs=2, resume=True)
    assert len(list(Path("runs").iterdir())) == 1


@pytest.mark.parametrize("change", ["inter", "item"])
def test_other_data_is_refused(
    change: str, runner: Train, own_ml100k: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"data_path": str(own_ml100k), "epochs": 2, "checkpoint_s": 0}
    with monkeypatch.context() as patch:
        stop_after(0, patch)
        with pytest.raises(Stop):
            runner("LightGCN", **settings)
    path = own_ml100k / "ml-100k" / f"ml-100k.{change}"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    for _ in range(2):  # the refusal itself does not replace what is compared
        with pytest.raises(ValueError, match="--resume: the data or its split is not that of runs"):
            runner("LightGCN", **settings, resume=True)


def test_a_run_killed_before_its_record_has_data_is_resumed(runner: Train) -> None:
    record = runner("Pop")
    path = Path(record.folder) / "record.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"status": "running", "data": {}, "stages": []}))
    shutil.rmtree(Path("saved") / record.id)
    assert runner("Pop", resume=True).id == record.id


def test_damaged_state_is_named(
    runner: Train,
    small_ml100k: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        stop_after(0, patch)
        with pytest.raises(Stop):
            runner("BPR", epochs=2, checkpoint_s=0)
    (last,) = Path("saved").glob("*/last.pth")
    last.write_bytes(last.read_bytes()[:1000])
    line = ["--model=BPR", "--dataset=ml-100k", f"--data_path={small_ml100k}", "--epochs=2"]
    assert run_recbole([*line, "--show_progress=false", "--resume"]) == 2
    assert f"checkpoint {last} is damaged" in capsys.readouterr().err


def killed_after_an_epoch(train: Train, monkeypatch: pytest.MonkeyPatch) -> RunRecord:
    """Leave a run of two epochs of BPR as a kill after the first leaves it."""
    with monkeypatch.context() as patch:
        stop_after(0, patch)
        with pytest.raises(Stop):
            train("BPR", epochs=2, checkpoint_s=0)
    return RunRecord.load(next(Path("runs").iterdir()))


def test_kind_8_a_live_run_is_not_resumed(
    runner: Train,
    small_ml100k: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = killed_after_an_epoch(runner, monkeypatch)
    monkeypatch.setattr("recbole_llm.locks._GRACE_S", 0)
    line = ["--model=BPR", "--dataset=ml-100k", f"--data_path={small_ml100k}", "--epochs=2"]
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    with only_writer(Path(record.folder)):
        assert run_recbole([*line, "--show_progress=false", "--resume"]) == 2
        text = f"run {record.id} is still going on (process id {os.getpid()} on host"
        assert text in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    assert runner("BPR", epochs=2, resume=True).id == record.id


def test_kind_8_a_run_that_finished_since_it_was_found_stays(
    runner: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = killed_after_an_epoch(runner, monkeypatch)
    find = find_unfinished

    def find_late(config: Any) -> RunRecord | None:
        found = find(config)
        if found is not None:  # another process finishes it at this moment
            found.status = "finished"
            found.save()
        return found

    monkeypatch.setattr("recbole_llm.record.find_unfinished", find_late)
    before = (Path(record.folder) / "record.json").read_bytes()
    assert runner("BPR", epochs=2, resume=True).id != record.id
    after = (Path(record.folder) / "record.json").read_bytes()
    assert json.loads(after) == json.loads(before) | {"status": "finished"}


def test_kind_8_leftovers_of_a_killed_run_are_cleared_by_another(
    runner: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = killed_after_an_epoch(runner, monkeypatch)
    stage = Path("saved") / "cache" / "stages" / "LightGCN-ml-100k-1"
    stage.mkdir(parents=True)
    halves = [
        Path(record.folder) / ".record.json.1.2.partial",
        Path("saved") / record.id / ".last.pth.1.2.partial",
        stage / ".output.pth.1.2.partial",
    ]
    for half in halves:
        half.touch()
    runner("Pop")
    assert not any(half.exists() for half in halves)
    assert not list(Path("runs").rglob(".lock"))
    assert runner("BPR", epochs=2, resume=True).id == record.id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counters": {"forward": 1}}, "keeps forward, which BPR no longer has"),
        ({"counters": {"n_users": "many"}}, "n_users is no number"),
        ({"optimizers": {}}, "cannot be resumed from .KeyError: 'optimizer'"),
        ({"random": {}}, "cannot be resumed from .KeyError: 'python'"),
        ({"loader_random": torch.zeros(3, dtype=torch.uint8)}, "cannot be resumed from"),
        ({"progress": "{"}, "cannot be resumed from"),
        ({"epoch": "1"}, "'epoch' is of type str, expected int"),
        ({"progress": None}, "'progress' is of type NoneType"),
    ],
)
def test_kind_7_a_state_that_cannot_be_resumed_is_named(
    change: dict[str, Any], message: str, runner: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = killed_after_an_epoch(runner, monkeypatch)
    last = Path("saved") / record.id / "last.pth"
    save_checkpoint(last, load_checkpoint(last) | change)
    with pytest.raises(ValueError, match=message) as info:
        runner("BPR", epochs=2, resume=True)
    assert str(last) in str(info.value) and "\n" not in str(info.value)


def test_kind_7_optimizer_state_of_another_shape_is_named(
    runner: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = killed_after_an_epoch(runner, monkeypatch)
    last = Path("saved") / record.id / "last.pth"
    state = load_checkpoint(last)
    state["optimizers"]["optimizer"]["state"][0]["exp_avg"] = torch.zeros(7)
    save_checkpoint(last, state)
    with pytest.raises(ValueError, match=r"the optimizer's exp_avg has shape \(7,\)"):
        runner("BPR", epochs=2, resume=True)


def test_kind_8_every_epoch_is_saved_where_that_is_cheap(
    runner: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch of 10 s, on a clock of its own; a save takes 0.2 s, then 1 s, 2 % and 10 %."""
    now, saved, save_s = [0.0], [], [0.2]
    epoch, save = HarnessMixin._one_epoch, saving.save_checkpoint

    def long_epoch(*args: Any) -> bool:
        now[0] += 10
        return epoch(*args)

    def slow_save(path: Path, state: Any) -> None:
        if path.name == "last.pth":
            now[0] += save_s[0]
            saved.append(state["epoch"])
        save(path, state)

    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(HarnessMixin, "_one_epoch", long_epoch)
    for module in (saving, harness):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(saving, "save_checkpoint", slow_save)
    runner("BPR", epochs=4)
    assert saved == [0, 1, 2, 3]
    saved.clear()
    save_s[0] = 1.0
    runner("BPR", epochs=10)
    assert saved == [0, 4, 8, 9], "40 s are 33 times the second"
    saved.clear()
    runner("BPR", epochs=6, checkpoint_s=20)
    assert saved == [0, 2, 4, 5], "checkpoint_s is the upper bound"
