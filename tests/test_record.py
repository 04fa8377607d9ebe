"""Run records: written whole or not at all, read back, and honest about time and memory."""

import dataclasses
import datetime
import json
import time
from pathlib import Path

import pytest

from recbole_llm import record as module
from recbole_llm.config import Config
from recbole_llm.record import RunRecord, claimed_run, find_unfinished, new_record


def make(**settings: object) -> tuple[Config, RunRecord]:
    config = Config("LightGCN", "ml-100k", overrides=settings)
    return config, new_record(config, "run_recbole --model=LightGCN")


def test_new_record_writes_nothing_and_has_all_settings(work: Path) -> None:
    config, record = make(seed=3)
    assert not (work / "runs").exists()
    assert record.config == config.to_dict() and record.config_hash == config.fingerprint()
    assert record.folder == f"runs/{record.id}"
    assert record.id.endswith(f"-LightGCN-ml-100k-{record.config_hash[:8]}")
    assert record.status == "running" and record.seed == 3


def test_round_trip(work: Path) -> None:
    _, record = make()
    with record.stage("data"):
        pass
    record.metrics["test"] = {"recall@10": 0.123456}
    path = record.finish()
    assert path == Path(record.folder) / "record.json"
    for place in (path, path.parent, str(path)):
        assert RunRecord.load(place) == record
    assert json.loads(path.read_text()) == dataclasses.asdict(record)
    assert record.finished >= record.started


def test_a_shared_record_names_no_place_of_the_machine(work: Path) -> None:
    record = new_record(Config("LightGCN", "ml-100k"), "")
    record.command = (
        f"run_recbole --data_path={work} --lr 1 --cache_dir '{work}/a b' --runs_dir {work} -m X"
    )
    shared = record.shared()
    assert shared["command"] == "run_recbole --lr 1 -m X"
    assert set(record.config) - set(shared["config"]) == {
        *("cache_dir", "checkpoint_dir", "data_path", "runs_dir")
    }
    record.folder = ""
    assert str(work) not in json.dumps(shared)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"stages": []}', '{"stages": [{"x": 1}]}'])
def test_damaged_record_is_named(text: str, work: Path) -> None:
    (work / "record.json").write_text(text)
    with pytest.raises(ValueError, match=r"record\.json is not a run record"):
        RunRecord.load("record.json")


def test_missing_record_is_named(work: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no run record at runs/x"):
        RunRecord.load("runs/x")
    (work / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no run record at empty/record\.json"):
        RunRecord.load("empty")


def test_a_failed_write_keeps_the_old_record(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, record = make()
    path = record.save()
    before = path.read_text()
    record.status = "finished"

    def replace(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(OSError, match="No space left"):
        record.save()
    assert path.read_text() == before and list(path.parent.iterdir()) == [path]


def test_stage_time_and_memory(work: Path) -> None:
    _, record = make()
    with record.stage("big") as big:
        block = bytearray(200 * 2**20)
        block[::4096] = b"x" * len(block[::4096])
        del block
    with record.stage("slow") as slow:
        time.sleep(0.05)
    assert 0.05 <= slow.seconds < 5
    assert slow.peak_bytes > 2**20
    # Each stage has its own peak, where the system lets us forget the last one.
    if Path("/proc/self/clear_refs").exists():
        assert big.peak_bytes - slow.peak_bytes > 100 * 2**20
    assert RunRecord.load(record.folder).stages == [big, slow], "written after every stage"


def test_a_stage_that_fails_is_recorded(work: Path) -> None:
    _, record = make()
    with pytest.raises(ZeroDivisionError), record.stage("bad"):
        1 / 0  # noqa: B018
    assert [stage.name for stage in record.stages] == ["bad"] and record.stages[0].seconds > 0


def test_a_stage_entered_again_adds_up(work: Path) -> None:
    _, record = make()
    for _ in range(2):
        with record.stage("training") as stage:
            time.sleep(0.02)
    assert record.stages == [stage] and stage.seconds >= 0.04


def test_unfinished_run_of_the_same_settings(work: Path) -> None:
    config, old = make()
    assert find_unfinished(config) is None
    old.save()
    time.sleep(0.002)
    _, new = make(show_progress=False)
    new.save()
    other_config, other = make(seed=1)
    other.save()
    assert find_unfinished(config) == new, "the newest"
    assert find_unfinished(other_config) == other
    for status, expected in (("failed", new), ("interrupted", new), ("finished", old)):
        new.status = status
        new.save()
        assert find_unfinished(config) == expected
    assert find_unfinished(make(runs_dir="elsewhere")[0]) is None


def test_outside_a_checkout_there_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "recbole_llm" / "record.py"))
    assert module._git_commit() is None


@pytest.mark.parametrize("environment", [{}, {"versions": {}}])
def test_a_record_without_versions_is_read(environment: dict[str, object], work: Path) -> None:
    _, record = make()
    record.environment = environment
    record.save()
    assert RunRecord.load(record.folder) == record


def test_kind_8_two_runs_in_one_millisecond_get_two_folders(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime(2026, 1, 2, 3, 4, 5, 999_500)

    config, _ = make()
    monkeypatch.setattr(module.datetime, "datetime", Clock)
    with claimed_run(config, "a") as (first, _), claimed_run(config, "b") as (second, _):
        first.save()
        second.save()
    assert first.id.startswith("20260102-030405-999-LightGCN-ml-100k-")
    assert second.id.startswith("20260102-030406-000-LightGCN-ml-100k-")
    assert second.started.startswith("2026-01-02T03:04:06")
    assert RunRecord.load(first.folder).command == "a"
    assert RunRecord.load(second.folder).command == "b"
