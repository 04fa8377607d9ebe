"""Kind 7, damage: a record that a report cannot use is a note of one line, never a traceback."""

import json
from pathlib import Path
from typing import Any

import pytest
from run_records import add

from recbole_llm.cli.main import main

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"origin": {"sweep": "t", "profile": "paper", "row": "BPR", "point": {}}}, "origin.kind"),
        ({"origin": {"kind": "final"}}, "origin.sweep"),
        ({"origin": 5}, "origin"),
        ({"metrics": {"test": {"recall@10": "high"}}}, "metrics.test.recall@10"),
        ({"metrics": {"test": {"recall@10": float("nan")}}}, "metrics.test.recall@10"),
        ({"metrics": 7}, "metrics"),
        ({"data": {"files": 3}}, "data.files"),
        ({"data": {"user_profiles": {"p": {}}}}, "data.user_profiles.p.leaky"),
        ({"data": {"frozen_split": {"name": "s"}}}, "data.frozen_split.protocol"),
        ({"data": []}, "data"),
        ({"environment": {"versions": [1]}}, "environment.versions"),
        ({"config": None}, "config"),
        ({"seed": "one"}, "seed"),
        ({"started": None}, "started"),
        ({"model": ["BPR"]}, "model"),
        ({"stages": [{"name": "training", "seconds": "long"}]}, "stages[0].seconds"),
        ({"stages": [{"name": "training", "peak_bytes": 10**400}]}, "stages[0].peak_bytes"),
        ({"stages": [{"speed": 3}]}, "Stage"),
        ({"id": None}, "id"),
    ],
)
def test_a_wrong_value_is_a_note(
    change: dict[str, Any], key: str, spec: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(add("BPR", 1, [0.2, 0.2]).folder) / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    add("LightGCN", 1, [0.3, 0.3])
    assert main(["report", str(spec())]) == 0
    assert "error" not in capsys.readouterr().err
    notes = [
        line for line in Path("reports/t/report.md").read_text().splitlines() if "not read" in line
    ]
    assert len(notes) == 1 and str(path) in notes[0] and key in notes[0].replace("\\", "")
    assert "| BPR | no run" in Path("reports/t/report.md").read_text()


def test_a_budget_without_a_sampler_is_shown_without_one(spec: Any) -> None:
    record = add("BPR", 1, [0.2, 0.2])
    record.origin["budget"] = {"n_trials": 4}
    record.save()
    assert main(["report", str(spec())]) == 0
    assert "| BPR | .2000 | .2000 | 1 | 4 |" in Path("reports/t/report.md").read_text()


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"5", b"\xff\xfe", b'{"id": "x"}', b"[" * 100_000, b'{"stages": 1}']
)
def test_a_file_that_is_no_record_is_a_note(content: bytes, spec: Any) -> None:
    add("LightGCN", 1, [0.3, 0.3])
    path = Path("runs/odd/record.json")
    path.parent.mkdir()
    path.write_bytes(content)
    assert main(["report", str(spec())]) == 0
    text = Path("reports/t/report.md").read_text()
    assert text.count(f"- not read: {path} is not a run record") == 1


def test_a_folder_in_the_place_of_a_record_is_a_note(spec: Any) -> None:
    add("LightGCN", 1, [0.3, 0.3])
    Path("runs/odd/record.json").mkdir(parents=True)
    assert main(["report", str(spec())]) == 0
    assert "- not read: " in Path("reports/t/report.md").read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("tables: 5\npaper: P\n", "tables: expected"),
        ("paper: P\ntables: {t: {where: x, rows: {}}}\n", "tables.t.columns: this key is required"),
        ("paper: P\ntables: {t: {where: x, columns: [a], rows: {BPR: 3}}}\n", "rows.BPR: expected"),
        (
            "paper: P\ntables: {t: {where: x, columns: [a], rows: {BPR: {b: [[1]]}}}}\n",
            "rows.BPR.b",
        ),
        (
            "paper: P\n"
            "tables: {t: {where: x, columns: [recall@10], rows: {BPR: {beauty: [many]}}}}\n",
            "BPR, beauty, recall@10 must be a number, got 'many'",
        ),
        ("- 1\n", ""),
        ("", "paper: this key is required"),
    ],
)
def test_damaged_published_numbers_are_an_error_of_one_line(
    content: str, message: str, spec: Any, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add("BPR", 1, [0.2, 0.2])
    path = spec(published="own/t")
    folder = work / "benchmarks" / "published"
    folder.mkdir()
    (folder / "own.yaml").write_text(content)
    assert main(["report", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and len(error.splitlines()) == 1


def test_every_committed_record_is_read(spec: Any) -> None:
    from recbole_llm.report.records import read_runs

    folders = [CHECKOUT / "reports" / "runs", *CHECKOUT.glob("reports/*/records")]
    runs, notes = read_runs(folders)
    assert not notes and len(runs) > 200
