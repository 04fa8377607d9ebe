"""What the tables say of the items that are hidden from rankings."""

from pathlib import Path
from typing import Any

import pytest
from run_records import add

from recbole_llm.report.hidden import hidden_note
from recbole_llm.report.write import write_report

PUBLISHED = """paper: P
{}tables:
  t: {{where: Table 1, columns: [recall@10], rows: {{BPR: {{beauty: [0.7]}}}}}}
"""


def report(spec: Any, masks: dict[str, bool | None], hides: str = "") -> str:
    folder = Path("benchmarks/published")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.yaml").write_text(PUBLISHED.format(hides))
    for row, mask in masks.items():
        config = {"model": row} if mask is None else {"model": row, "mask_history": mask}
        add(row, 1, [0.1, 0.2], config=config)
    write_report(spec(published="own/t", seeds=[1], compare=None))
    return Path("reports/t/report.md").read_text()


def test_rows_alike_are_said_once(spec: Any, work: Path) -> None:
    text = report(spec, {"BPR": True, "LightGCN": True}, "hides: training items\n")
    assert (
        "Hidden from the rankings: the items that a user is known to have (all rows measured "
        "here); training items (published)." in text
    )
    for name in ("tables.tex", "index.html"):
        assert "training items (published)" in Path(f"reports/t/{name}").read_text()


def test_rows_that_differ_are_named(spec: Any, work: Path) -> None:
    text = report(spec, {"LightGCN": False, "BPR": True})
    assert (
        "Hidden from the rankings: nothing (LightGCN); the items that a user is known to have "
        "(BPR); not known (published)." in text
    )


def test_old_records_do_not_say(spec: Any, work: Path) -> None:
    assert "not recorded (LightGCN); nothing (BPR)" in report(
        spec, {"LightGCN": None, "BPR": False}
    )


@pytest.mark.parametrize(("published", "expected"), [(None, ""), ("", "not known (published)")])
def test_without_a_run(published: str | None, expected: str) -> None:
    note = hidden_note({"BPR": []}, published)
    assert note == (f"Hidden from the rankings: {expected}." if expected else "")
