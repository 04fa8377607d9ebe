"""Tables of a page that are written from records: docs/results.md, and small ones by hand."""

import json
import re
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml

from recbole_llm.cli.main import main
from recbole_llm.record import RunRecord, Stage
from recbole_llm.report.results import write_results

ROOT = Path(__file__).resolve().parents[2]
PAGE = "# A page\n\nText.\n\n<!-- rows: t -->\nold\n<!-- end of rows -->\nMore .1234 text.\n"


def test_page_of_results_is_what_the_records_give(work: Path) -> None:
    """The committed page, its tables taken out, is written again byte for byte."""
    (work / "docs").mkdir()
    copytree(ROOT / "reports" / "runs", work / "reports" / "runs")
    rows = (ROOT / "reports" / "results.yaml").read_text(encoding="utf-8")
    (work / "reports" / "results.yaml").write_text(rows, encoding="utf-8")
    committed = (ROOT / "docs" / "results.md").read_bytes()
    empty = re.sub(rb"(<!-- rows: \S+ -->\n).*?(<!-- end)", rb"\1\2", committed, flags=re.DOTALL)
    assert b"reports/runs/" not in empty
    (work / "docs" / "results.md").write_bytes(empty)
    assert main(["results", "reports/results.yaml"]) == 0
    assert (work / "docs" / "results.md").read_bytes() == committed


@pytest.fixture
def desk(work: Path) -> Path:
    """A page with one table, and records of two seeds of A and one of B."""
    (work / "page.md").write_text(PAGE, encoding="utf-8")
    (work / "runs").mkdir()
    for name, model, seed, recall in (("a1", "A", 1, 0.1), ("a2", "A", 2, 0.2), ("b1", "B", 1, 0)):
        config = {"epochs": 3, "mask_history": True, "seed": seed, "torch_threads": seed}
        record = RunRecord(name, model, "beauty", "loo", seed, config, "h", name)
        record.status, record.started = "finished", "2026-01-01T00:00:00"
        record.metrics = {"test": {"recall@10": recall}}
        record.data = {"files": {"beauty.inter": "1"}, "split": f"s{seed}"}
        record.stages = [Stage("graph (G)", metrics={"test": {"recall@10": recall / 2}})]
        (work / "runs" / f"{name}.json").write_text(json.dumps(record.shared()), encoding="utf-8")
    return work


def write_rows(*rows: dict[str, Any], **over: Any) -> Path:
    table = {"metrics": ["recall@10"], "rows": list(rows)}
    content = {"page": "page.md", "records": "runs", "tables": {"t": table}} | over
    path = Path("rows.yaml")
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def change(name: str, **over: Any) -> None:
    """Change keys of a record; ``data={...}`` changes keys inside."""
    path = Path("runs") / f"{name}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for key, value in over.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(content), encoding="utf-8")


A = {"label": "A", "runs": ["a1", "a2"]}
B = {"label": "`B`", "runs": ["b1"]}


def test_table_by_hand(desk: Path) -> None:
    """Mean .15 of .1 and .2, sample deviation .1 / sqrt(2) = .0707; of the stage half of both."""
    page = write_results(write_rows(A, B, {**A, "label": "G of A", "stage": "graph"}))
    assert page.read_text(encoding="utf-8") == PAGE.replace(
        "old\n",
        "\n| model | R@10 | seed | record |\n| --- | --- | --- | --- |\n"
        "| A | .1500 ± .0707 | 1, 2 | [1](runs/a1.json) [2](runs/a2.json) |\n"
        "| `B` | .0000 | 1 | [record](runs/b1.json) |\n"
        "| G of A | .0750 ± .0354 | 1, 2 | [1](runs/a1.json) [2](runs/a2.json) |\n\n",
    )


@pytest.mark.parametrize(
    ("name", "over", "text"),
    [
        ("b1", {"dataset": "toys"}, "b1 has another dataset than a1: toys, and beauty"),
        ("b1", {"protocol": "random811"}, "another protocol"),
        ("b1", {"config": {"mask_history": False}}, "another mask_history"),
        ("b1", {"data": {"files": {"beauty.inter": "2"}}}, "another checksum of beauty.inter"),
        ("b1", {"data": {"split": "other"}}, "another split"),
        ("a2", {"config": {"epochs": 4}}, "row 'A': epochs is 3 in a1 and 4 in a2"),
        ("a2", {"model": "B"}, "row 'A': model is A in a1 and B in a2"),
        ("a2", {"seed": 1, "data": {"split": "s1"}}, "row 'A': two runs have the same seed"),
        ("a2", {"status": "failed"}, "the run is failed"),
        ("a2", {"metrics": {"test": {}}}, "a record has no recall@10"),
        ("a2", {"stages": []}, "a2 has no stage 'graph' with metrics; it has: none"),
        ("b1", {"data": {"user_profiles": {"p": {"leaky": True}}}}, "has to say LEAKY"),
    ],
)
def test_runs_that_do_not_compare_are_refused(
    desk: Path, name: str, over: dict[str, Any], text: str
) -> None:
    change(name, **over)
    rows = [A, B, {**A, "label": "G of A", "stage": "graph"}]
    with pytest.raises(ValueError, match=re.escape(text)):
        write_results(write_rows(*rows))
    assert Path("page.md").read_text(encoding="utf-8") == PAGE


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (PAGE.replace("rows: t", "rows: u"), "has a place for 'u', and there is no such table"),
        (PAGE.replace("<!-- rows: t -->\n", ""), "table 't' has 0 places in the page"),
        (PAGE + PAGE, "table 't' has 2 places in the page"),
    ],
)
def test_a_page_without_the_right_places_is_refused(desk: Path, page: str, text: str) -> None:
    Path("page.md").write_text(page, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(text)):
        write_results(write_rows(A))
    assert Path("page.md").read_text(encoding="utf-8") == page


def test_errors_of_the_command_are_one_line(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", str(write_rows({**A, "runs": ["../a1"]}))]) == 2
    assert "the name '../a1' must be" in capsys.readouterr().err
    assert main(["results", str(write_rows({**A, "run": "a1"}))]) == 2
    error = capsys.readouterr().err
    assert "unknown key 'tables.t.rows[0].run'. Did you mean 'runs'?" in error
    assert error.count("\n") == 1
