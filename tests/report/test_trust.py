"""Kind 9, trust: what a report says when a record is not what the spec and the lists say."""

import json
from pathlib import Path
from typing import Any

import pytest
from run_records import add

from recbole_llm.cli.main import main
from recbole_llm.config import Config
from recbole_llm.report.write import write_report

SEARCH = {
    "seeds": [1],
    "rows": [{"model": "BPR"}],
    "compare": None,
    "space": {"learning_rate": {"float": [1e-4, 1e-2], "log": True}},
    "search": {"sampler": "tpe", "n_trials": 6},
}


def resolved(model: str = "BPR", **settings: Any) -> dict[str, Any]:
    """Return the settings that a run of a row of the spec has in its record."""
    given = {"protocol": "loo", "valid_metric": "Recall@20", **settings}
    return {**Config(model, "beauty", (), given).to_dict(), "seed": 1}


def notes() -> list[str]:
    """Return the notes of the report, without the lines of its set-up, which begin in bold."""
    lines = Path("reports/t/report.md").read_text(encoding="utf-8").splitlines()
    listed = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    return [line for line in listed if not line.startswith("**")]


def shown(row: str) -> bool:
    lines = Path("reports/t/report.md").read_text(encoding="utf-8").splitlines()
    return not next(line for line in lines if line.startswith(f"| {row} ")).count("no run")


def test_settings_of_an_edited_spec_are_said(spec: Any) -> None:
    for row in ("BPR", "LightGCN"):
        add(row, 1, [0.2, 0.2], config=resolved(row, epochs=2))
    write_report(spec(settings={"epochs": 2}))
    assert not [note for note in notes() if "spec's settings" in note]
    write_report(spec(settings={"epochs": 200}))
    assert (
        "Not the spec's settings: epochs is 2, spec 200 (LightGCN on beauty, BPR on beauty)."
        in notes()
    )
    assert shown("BPR") and shown("LightGCN")


def test_a_setting_that_the_spec_leaves_to_its_default_is_compared(spec: Any) -> None:
    add("BPR", 1, [0.2, 0.2], config=resolved(embedding_size=128))
    write_report(spec(settings={"embedding_size": 128}))
    assert not [note for note in notes() if "spec's settings" in note]
    write_report(spec())
    assert "Not the spec's settings: embedding_size is 128, spec 64 (BPR on beauty)." in notes()


def test_a_folder_of_runs_that_does_not_exist_is_an_error(
    spec: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(spec())
    assert main(["report", path, "--runs", "rnus"]) == 2
    assert "no folder of run records 'rnus'" in capsys.readouterr().err
    assert main(["report", path]) == 1
    assert "no finished run" in capsys.readouterr().err


def test_an_edited_budget_and_space_are_said(spec: Any) -> None:
    config = resolved(learning_rate=5e-3)
    run = add("BPR", 1, [0.2, 0.2], config=config)
    budget = {"n_trials": 6, "sampler": "tpe"}
    run.origin = {**run.origin, "budget": budget}
    run.save()
    write_report(spec(**SEARCH))
    assert not [note for note in notes() if "spec's settings" in note]
    search = {"sampler": "random", "n_trials": 500}
    write_report(spec(**{**SEARCH, "search": search}))
    text = "\n".join(notes())
    assert "search.n\\_trials" not in text and "search.n_trials is 6, spec 500" in text
    assert "search.sampler is tpe, spec random" in text
    space = {"learning_rate": {"float": [1e-4, 1e-3], "log": True}}
    write_report(spec(**{**SEARCH, "space": space}))
    assert "learning_rate is 0.005, outside the spec's space (BPR on beauty)" in "\n".join(notes())


def test_nested_and_listed_settings_are_compared_as_they_are_resolved(spec: Any) -> None:
    given = {"topk": 20, "train_neg_sample_args.sample_num": 1}
    add("BPR", 1, [0.2, 0.2], config=resolved(**given))
    rows = [{"model": "BPR"}]
    write_report(spec(settings=given, rows=rows, compare=None))
    assert not [note for note in notes() if "spec's settings" in note]
    edited = {**given, "train_neg_sample_args.sample_num": 3}
    write_report(spec(settings=edited, rows=rows, compare=None))
    assert "train_neg_sample_args.sample_num is 1, spec 3" in "\n".join(notes())


def test_a_seed_that_the_spec_does_not_have_is_said(spec: Any) -> None:
    for seed in (1, 7):
        add("BPR", seed, [0.2, 0.2], config=resolved())
    write_report(spec())
    assert "Not the spec's settings: seed is 7, spec 1, 2 (BPR on beauty)." in notes()


def test_a_run_of_the_specs_settings_is_shown_before_a_newer_one_of_others(spec: Any) -> None:
    add("BPR", 1, [0.2, 0.2], config=resolved(epochs=2))
    add("BPR", 1, [0.4, 0.4], config=resolved(epochs=9), started="2027-01-01")
    write_report(spec(settings={"epochs": 2}))
    text = Path("reports/t/report.md").read_text()
    assert "| BPR | .2000 |" in text and "1 older runs" in text


@pytest.mark.parametrize(
    "change",
    [
        {"embedding_size": 1, "learning_rate": 1e-12},
        {"mask_history": False},
        {"train_neg_sample_args.sample_num": 7},
    ],
)
def test_a_run_by_hand_with_other_settings_takes_no_cell(change: dict[str, Any], spec: Any) -> None:
    add("BPR", 1, [0.2, 0.2], config=resolved())
    by_hand = add("BPR", 1, [0.9, 0.9], origin={}, config=resolved(**change), started="2027-01-01")
    write_report(spec())
    text = Path("reports/t/report.md").read_text()
    assert "| BPR | .2000 |" in text and ".9000" not in text
    note = next(note for note in notes() if by_hand.id in note)
    assert note.startswith("BPR on beauty: 1 runs that were started by themselves are left out")
    assert all(key in note for key in change)


def test_a_run_by_hand_with_the_settings_of_the_row_takes_its_cell(spec: Any) -> None:
    add("BPR", 1, [0.3, 0.3], origin={}, config={**resolved(), "save_topk": 7, "state": "DEBUG"})
    write_report(spec())
    assert "| BPR | .3000 |" in Path("reports/t/report.md").read_text()


def test_a_searched_row_takes_no_run_by_hand(spec: Any) -> None:
    add("BPR", 1, [0.9, 0.9], origin={}, config=resolved(learning_rate=5e-3))
    write_report(spec(**SEARCH))
    assert not shown("BPR")


def test_a_spec_that_cannot_be_resolved_here_is_said(spec: Any) -> None:
    add("BPR", 1, [0.2, 0.2], config=resolved())
    write_report(spec(settings={"speling": 3}))
    found = [note for note in notes() if note.startswith("Settings were not compared")]
    assert len(found) == 1 and "unknown key 'speling'" in found[0] and shown("BPR")


def test_dirty_commits_and_versions_are_said(spec: Any) -> None:
    versions = {"python": "3.11.7", "torch": "2.1.0"}
    dirty = add("BPR", 1, [0.2, 0.2], environment={"git_commit": "c+", "versions": versions})
    environment = {"git_commit": "c", "versions": {**versions, "torch": "2.6.0"}}
    add("LightGCN", 1, [0.3, 0.3], environment=environment)
    write_report(spec())
    text = "\n".join(notes())
    assert "1 of 2 runs had changes in the code that were not committed" in text
    assert dirty.id in text
    assert "The runs differ in versions of libraries: torch (2.1.0, 2.6.0)." in text


@pytest.mark.parametrize("part", ["valid", "test"])
def test_edited_metrics_are_left_out(part: str, spec: Any) -> None:
    lists = [[0], [15], []] * 3
    record = add("BPR", 1, hits=lists)
    saved = (Path(record.folder) / "topk-test.jsonl").read_text()
    (Path(record.folder) / "topk-valid.jsonl").write_text(saved)
    write_report(spec())
    assert shown("BPR") and "not to be trusted" not in "\n".join(notes())
    record.metrics[part]["recall@20"] = 0.99
    record.save()
    write_report(spec())
    text = "\n".join(notes())
    assert not shown("BPR") and f"left out: run {record.id}, whose metrics are not" in text
    assert f"{part}, recall@20 is 0.990000 in the record and 0.666667 in the lists" in text


@pytest.mark.parametrize(
    "line",
    [
        "{",
        '{"user": "0", "items": [], "hits": "abc", "n_positives": 1}',
        '{"user": "0", "items": [], "hits": [-1], "n_positives": 1}',
        '{"user": "0", "items": [], "hits": [0, 0], "n_positives": 2}',
        '{"user": "0", "items": [], "hits": [0], "n_positives": 0}',
        '{"user": "0", "items": [], "hits": [0], "n_positives": "one"}',
        "",
    ],
)
def test_a_run_with_damaged_lists_is_left_out(line: str, spec: Any) -> None:
    record = add("BPR", 1, hits=[[0]])
    (Path(record.folder) / "topk-test.jsonl").write_text(line)
    assert main(["report", str(spec())]) == 1
    assert any("topk-test.jsonl" in note and record.id in note for note in notes())
    assert not shown("BPR")


def test_a_cut_off_beyond_the_lists_is_not_compared_or_tested(spec: Any) -> None:
    for row in ("BPR", "Ours"):
        record = add(row, 1, hits=[[0]] * 4)
        record.metrics["test"]["recall@50"] = 0.5
        record.save()
    write_report(spec())
    text = Path("reports/t/report.md").read_text()
    assert shown("BPR") and "Ours against BPR on beauty" in text


def test_rounded_metrics_agree_with_lists(spec: Any) -> None:
    config = {**resolved(), "metric_decimal_place": 4}
    add("BPR", 1, [0.3333, 0.6667], hits=[[0], [15], []], config=config)
    write_report(spec())
    assert shown("BPR")
    config = {**resolved(), "metric_decimal_place": -3}
    add("LightGCN", 1, [1.0, 1.0], hits=[[0], [15], []], config=config)
    write_report(spec())
    assert not shown("LightGCN")


def test_json_of_a_record_may_be_edited_by_hand(spec: Any) -> None:
    record = add("BPR", 1, hits=[[0]] * 4)
    path = Path(record.folder) / "record.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "metrics": {"test": {"ndcg@10": 0.5}}}))
    write_report(spec())
    assert not shown("BPR")


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_a_real_run_takes_the_cell_of_its_settings_and_agrees_with_its_lists(
    model: str, spec: Any, runner: Any
) -> None:
    over = {"datasets": ["ml-100k"], "rows": [{"model": model}], "seeds": [2020], "compare": None}
    record = runner(model, protocol="loo", save_topk=20)
    path = spec(**over, settings={"epochs": 1})
    write_report(path)
    expected = ("git_commit", "There are no learning curves")  # it has one epoch
    assert shown(model) and not [n for n in notes() if not any(text in n for text in expected)]
    write_report(spec(**over, settings={"epochs": 2}))
    assert not shown(model)
    kept = Path(record.folder) / "record.json"
    content = json.loads(kept.read_text())
    content["metrics"]["test"]["recall@10"] += 0.01
    kept.write_text(json.dumps(content))
    write_report(spec(**over, settings={"epochs": 1}))
    assert not shown(model) and "not to be trusted" in "\n".join(notes())
