"""Records whose metrics were rounded to fewer decimals are verified to these, and no further."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from recbole_llm.record import RunRecord
from recbole_llm.runs.rounding import Rounding
from recbole_llm.runs.verify import verify_run

Train = Callable[..., RunRecord]


@pytest.mark.parametrize(
    ("digits", "recorded", "here", "same"),
    [
        (4, 0.1234, 0.12344, True),
        (4, 0.1234, 0.12346, False),  # rounds to .1235
        (4, 0.12341, 0.12341, False),  # five decimals, where four are promised
        (3, 0.123, 0.1234, True),
        (3, 0.124, 0.1234, False),
        (2, 0.12, 0.1234, False),
        (0, 0.0, 0.49, False),
        (-3, 0.0, 0.49, False),
        (9, 0.123456, 0.1234564, True),
        (6, 0.123458, 0.123456, False),
        ("4", 0.1234, 0.12344, False),
        (True, 0.1, 0.12, False),
        (4, math.inf, 0.1, False),
    ],
)
def test_a_rounded_number_is_compared_as_such(digits, recorded, here, same) -> None:
    assert Rounding({"metric_decimal_place": digits}).same(recorded, here) == same


def test_a_run_with_four_decimals_is_verified(runner: Train) -> None:
    folder = Path(runner("ItemKNN", save_topk=20, metric_decimal_place=4).folder)
    outcome = verify_run(folder)
    assert outcome.agrees, outcome.text
    assert "agrees to 4 digits" in outcome.text
    path = folder / "record.json"
    content = json.loads(path.read_text())
    assert (
        round(content["metrics"]["test"]["recall@10"], 4)
        == (content["metrics"]["test"]["recall@10"])
    )
    content["metrics"]["test"]["recall@10"] += 0.0001
    path.write_text(json.dumps(content))
    assert not verify_run(folder).agrees


def test_a_run_with_two_decimals_is_not(runner: Train) -> None:
    outcome = verify_run(runner("ItemKNN", save_topk=20, metric_decimal_place=2).folder)
    assert not outcome.agrees and "DIFFERS" in outcome.text
