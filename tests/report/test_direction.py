"""Kind 6, direction: the best of a metric is its smallest value where RecBole says so."""

import re
from pathlib import Path
from typing import Any

import pytest
from run_records import add

from recbole_llm.report.statistics import improvement, smaller_is_better
from recbole_llm.report.text import short_metric
from recbole_llm.report.write import write_report

METRICS = ["recall@10", "giniindex@10", "averagepopularity@10", "itemcoverage@10"]


@pytest.fixture
def report(spec: Any) -> Path:
    values = {
        "LightGCN": [0.2, 0.9, 80.0, 0.3],
        "BPR": [0.1, 0.5, 50.0, 0.2],
        "Ours": [0.3, 0.4, 60.0, 0.1],
    }
    for row, found in values.items():
        record = add(row, 1, [0.0, 0.0])
        record.metrics = {"test": dict(zip(METRICS, found, strict=True))}
        record.save()
    write_report(spec(seeds=[1], settings={"metrics": ["recall"]}))
    return Path("reports/t")


def test_the_smallest_is_bold_where_smaller_is_better(report: Path) -> None:
    text = (report / "report.md").read_text(encoding="utf-8")
    rows = {
        line.split(" | ")[0][2:]: line.split(" | ")[1:5]
        for line in text.partition("## ")[0].splitlines()
    }
    assert rows["Ours"] == ["**.3000**", "**.4000**", "<u>60.0000</u>", ".1000"]
    assert rows["BPR"] == [".1000", "<u>.5000</u>", "**50.0000**", "<u>.2000</u>"]
    assert rows["LightGCN"] == ["<u>.2000</u>", ".9000", "80.0000", "**.3000**"]
    # over the best other: .3 over .2; .4 under .5; 60 over 50; .1 under .3
    assert rows["improvement of Ours"] == ["+50.0 %", "+20.0 %", "\u221220.0 %", "\u221266.7 %"]
    tex = (report / "tables.tex").read_text(encoding="utf-8")
    assert r"Ours & \textbf{.3000} & \textbf{.4000} & \underline{60.0000} & .1000 \\" in tex
    assert r"giniindex@10 $\downarrow$" in tex
    page = (report / "index.html").read_text(encoding="utf-8")
    first = re.findall(r'<th data-first="1">beauty (\S+) ↓</th>', page)
    assert first == ["giniindex@10", "averagepopularity@10"]


def test_directions_are_recboles() -> None:
    smaller = ["GiniIndex@5", "averagepopularity@10", "logloss", "MAE", "rmse"]
    larger = ["recall@10", "itemcoverage@10", "shannonentropy@10", "tailpercentage@10", "auc"]
    assert all(map(smaller_is_better, smaller)) and not any(map(smaller_is_better, larger))
    assert short_metric("giniindex@5") == "giniindex@5 ↓" and short_metric("ndcg@5") == "N@5"


def test_improvement_of_a_smaller_value_by_hand() -> None:
    assert improvement(0.4, 0.5, smaller=True) == pytest.approx(20)
    assert improvement(-0.4, -0.5) == pytest.approx(20)
