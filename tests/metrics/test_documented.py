"""The page on metrics names every metric, and the direction that its class has."""

import re
from pathlib import Path

from metric_lists import CUT

from recbole_llm.metrics.register import ADDED
from recbole_llm.report.statistics import smaller_is_better

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_page_has_every_metric_and_its_direction() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\| (larger|smaller) \|", text, flags=re.MULTILINE)
    assert {name.lower() for name, _ in rows} == {*CUT, "gauc"}
    for name, direction in rows:
        assert smaller_is_better(name) == (direction == "smaller"), name
    assert {metric.__name__ for metric in ADDED} <= {name for name, _ in rows}
    scored = text.split("## Metrics of scored rows")[1].split("##")[0]
    assert all(f"`{name}`" in scored for name in ("AUC", "LogLoss", "MAE", "RMSE"))
