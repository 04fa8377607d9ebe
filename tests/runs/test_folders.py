"""Runs listed, shown and removed; nothing but a run's own files is ever removed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from recbole_llm.cli.main import main
from recbole_llm.locks import only_writer
from recbole_llm.record import RunRecord

Train = Callable[..., RunRecord]


def unfinished(record: RunRecord, status: str = "failed", **changes: object) -> None:
    """Let a finished run look like one that did not finish."""
    path = Path(record.folder) / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": status} | changes))


def test_runs_are_listed_and_sorted(runner: Train, capsys: pytest.CaptureFixture[str]) -> None:
    weak, strong = runner("Random"), runner("Pop")
    capsys.readouterr()
    assert main(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == [strong.id, weak.id]
    assert main(["runs", "list", "--sort=ndcg@10"]) == 0
    lines = capsys.readouterr().out.splitlines()
    best = max((weak, strong), key=lambda record: record.metrics["test"]["ndcg@10"])
    assert lines[2].split()[0] == best.id
    assert f"{best.metrics['test']['ndcg@10']:.4f}" in lines[2]
    assert main(["runs", "list", "--model=Pop"]) == 0
    assert weak.id not in capsys.readouterr().out
    assert main(["runs", "list", "--sort=recal@20"]) == 2
    assert "'recall@20'" in capsys.readouterr().err
    assert main(["runs", "show", strong.folder]) == 0
    assert f"{strong.metrics['test']['recall@10']:.4f}" in capsys.readouterr().out


def test_clean_lists_first_and_removes_with_yes(
    runner: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = runner("Pop"), runner("BPR")
    unfinished(bad)
    owned = [Path(bad.folder), Path("saved") / bad.id, Path(bad.files["log"])]
    capsys.readouterr()
    assert main(["runs", "clean"]) == 0
    out = capsys.readouterr().out
    assert all(str(path) in out for path in owned) and good.id not in out
    assert all(path.exists() for path in owned)
    assert main(["runs", "clean", "--yes"]) == 0
    assert not any(path.exists() for path in owned)
    assert (Path(good.folder) / "record.json").is_file()
    assert (Path("saved") / good.id).is_dir()


def test_a_run_that_goes_on_is_kept(runner: Train, capsys: pytest.CaptureFixture[str]) -> None:
    record = runner("Pop")
    unfinished(record, "running")
    with only_writer(Path(record.folder)):
        assert main(["runs", "clean", "--yes"]) == 0
    assert "still going on" in capsys.readouterr().out
    assert (Path(record.folder) / "record.json").is_file()


def test_a_forged_record_removes_nothing_else(runner: Train) -> None:
    record = runner("Pop")
    precious = Path("precious")
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    unfinished(
        record,
        id="precious",
        config=record.config | {"checkpoint_dir": "."},
        files={"log": "precious/precious.log", "checkpoint": "precious/best.pth"},
    )
    (precious / "precious.log").write_text("mine")
    assert main(["runs", "clean", "--yes"]) == 0
    assert sorted(path.name for path in precious.iterdir()) == ["precious.log", "thesis.txt"]
