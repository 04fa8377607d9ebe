"""Kind 7: training that diverges does not end as a finished run without a word."""

import logging
import math

import pytest
import torch

from recbole_llm.data.tie_order import tie_order
from recbole_llm.trainer.divergence import check_finite, warn_of_growth
from recbole_llm.trainer.ranking import rank_batch


@pytest.mark.parametrize(("loss", "word"), [(math.nan, "NaN"), (math.inf, "infinite")])
def test_kind7_a_loss_that_is_no_number_stops_training(loss: float, word: str) -> None:
    with pytest.raises(ValueError, match=f"epoch 3 is {word}. Lower --learning_rate"):
        check_finite(loss, 3)
    check_finite(1e30, 3)


@pytest.mark.parametrize(
    ("losses", "first", "n_warnings"),
    [
        ([0.7, 0.5], 0.7, 0),
        ([0.7, 9e5], None, 0),
        ([0.7, 2e6], None, 1),
        ([2e6], 0.7, 1),
        ([2e6], None, 0),
        ([1e3, 2e8], 1e3, 0),
        ([0.7, 2e6, 3e6], None, 0),  # said before
        ([-0.7, -2e6], None, 1),
        ([1e-9, 0.1], 1e-9, 0),
    ],
)
def test_kind7_a_loss_that_explodes_is_warned_of_once(
    losses: list[float], first: float | None, n_warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_growth(losses, first)
    assert len(caplog.records) == n_warnings
    assert all("Lower --learning_rate" in record.message for record in caplog.records)


def test_kind7_infinite_scores_are_refused() -> None:
    none = torch.zeros(0, dtype=torch.long)
    for score in (torch.inf, torch.nan):
        scores = torch.zeros(2, 5)
        scores[1, 3] = score
        with pytest.raises(ValueError, match="NaN or infinity.*learning_rate"):
            rank_batch(scores, None, none, none, 2, tie_order(range(5)))
    lowest = torch.full((2, 5), -torch.inf)
    rank_batch(lowest, None, none, none, 2, tie_order(range(5)))


def test_kind7_a_run_that_explodes_says_so(runner, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"learner": "sgd", "learning_rate": 100, "reg_weight": 1e3}
    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="NaN or infinity"):
        runner("LightGCN", **settings)
    assert [r for r in caplog.records if "training has diverged" in r.message]
