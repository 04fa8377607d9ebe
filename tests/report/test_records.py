"""A report reads the records that it kept, and never removes, replaces or misplaces one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from run_records import add

from recbole_llm.report.write import write_report
from recbole_llm.runs.rankings import read_rankings

CHECKOUT = Path(__file__).resolve().parents[2]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("spec_name", "report_name", "n_records"),
    [("fig4", "hellm-fig4", 16), ("table2", "hellm-table2", 4)],
)
def test_a_committed_report_keeps_its_records_and_numbers(
    spec_name: str, report_name: str, n_records: int, work: Path
) -> None:
    committed = CHECKOUT / "reports" / report_name
    shutil.copytree(committed, work / "reports" / report_name)
    before = contents(committed / "records")
    assert len(before) == n_records
    write_report(CHECKOUT / "benchmarks" / "hellm" / f"{spec_name}.yaml")
    report = work / "reports" / report_name
    assert contents(report / "records") == before
    numbers = "tables.csv" if spec_name == "table2" else "points.csv"
    assert (report / numbers).read_bytes() == (committed / numbers).read_bytes()


def test_a_report_with_fewer_runs_says_so(spec: Any, caplog: pytest.LogCaptureFixture) -> None:
    for seed in (1, 2):
        add("BPR", seed, [0.2, 0.2])
    path = spec(profiles={"small": {"seeds": [1]}})
    write_report(path)
    kept = contents(Path("reports/t/records"))
    assert len(kept) == 2 and "more in records/" not in Path("reports/t/report.md").read_text()
    shutil.rmtree("runs")
    write_report(path, profile="small")
    text = Path("reports/t/report.md").read_text()
    assert "- This report shows 0 runs; 2 more in records/ have another profile" in text
    assert "This report shows 0 runs; 2 more in records/" in caplog.text
    assert contents(Path("reports/t/records")) == kept
    write_report(path, profile="paper")
    assert "| BPR | .2000 ± .0000 | .2000 ± .0000 | 2 |" in Path("reports/t/report.md").read_text()


def test_a_kept_record_is_not_replaced(spec: Any) -> None:
    record = add("BPR", 1, [0.2, 0.2])
    write_report(spec())
    kept = contents(Path("reports/t/records"))
    record.metrics["test"]["recall@10"] = 0.9
    record.save()
    write_report(spec())
    text = Path("reports/t/report.md").read_text()
    assert f"- records/{record.id}.json was not replaced: it differs from the run" in text
    assert contents(Path("reports/t/records")) == kept


def test_a_file_that_has_nothing_to_say_is_removed_with_a_word(
    spec: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for row in ("Ours", "BPR"):
        add(row, 1, hits=[[0]] * 9)
    write_report(spec())
    significance = Path("reports/t/significance.csv")
    assert significance.is_file() and not caplog.text
    shutil.rmtree("runs")
    shutil.rmtree("reports/t/records")
    for row in ("Ours", "BPR"):
        add(row, 1, [0.1, 0.1])
    write_report(spec())
    assert not significance.exists() and f"{significance} of an earlier report" in caplog.text
    text = Path("reports/t/report.md").read_text()
    assert "significance.csv of an earlier report was removed: it was of other runs" in text


def test_tests_of_the_same_runs_stay_where_their_lists_are_missing(spec: Any) -> None:
    for row in ("Ours", "BPR"):
        add(row, 1, hits=[[0]] * 9)
    write_report(spec())
    significance = Path("reports/t/significance.csv")
    before = significance.read_bytes()
    shutil.rmtree("runs")
    for path in Path("reports/t/records").glob("*.topk-*"):
        path.unlink()
    write_report(spec())
    assert significance.read_bytes() == before
    text = Path("reports/t/report.md").read_text()
    assert "significance.csv is that of an earlier report of the same runs" in text


def test_lists_are_kept_next_to_the_records(spec: Any) -> None:
    """Kind 9: no number of a committed report could be verified, for it had no lists."""
    for row, rank in (("Ours", 0), ("BPR", 15)):
        model = {"Ours": "SRGFormer"}.get(row, row)
        add(row, 1, hits=[[rank]] * 9, config={"seed": 1, "model": model, "topk": [10, 20]})
    write_report(spec())
    significance = Path("reports/t/significance.csv").read_bytes()
    lists = sorted(Path("reports/t/records").glob("*.topk-test.jsonl.gz"))
    assert len(lists) == 2 and [next(read_rankings(path)).hits for path in lists] == [[0], [15]]
    shutil.rmtree("runs")
    write_report(spec())
    assert Path("reports/t/significance.csv").read_bytes() == significance


@pytest.mark.parametrize("name", ["../../../outside", "a/b", "..", ""])
def test_a_foreign_id_writes_nothing_outside(name: str, spec: Any, work: Path) -> None:
    path = Path(add("BPR", 1, [0.2, 0.2]).folder) / "record.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "id": name}))
    write_report(spec())
    assert not list(work.rglob("*outside*")) and not list(work.rglob("b.json"))
    assert not list(Path("reports/t/records").iterdir())
    text = Path("reports/t/report.md").read_text()
    assert f"- not read: id in {path}: the name {name!r} must be" in text


@pytest.mark.parametrize("name", ["../x", "..", "a b"])
def test_the_name_of_a_spec_is_the_name_of_a_folder(name: str, spec: Any, work: Path) -> None:
    with pytest.raises(ValueError, match="report: the name .* must be a folder's name"):
        write_report(spec(name=name))
    assert not (work / "reports").exists()
