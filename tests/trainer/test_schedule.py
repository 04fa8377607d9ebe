import math

import pytest

from recbole_llm.trainer.schedule import learning_rate_factor

SETTINGS = {
    "learning_rate": 1e-2,
    "lr_decay": 0.5,
    "lr_decay_epochs": 4,
    "warmup_epochs": 2,
    "min_learning_rate": 1e-3,
    "epochs": 10,
}


def factor(schedule: str, done: float, **changed: float) -> float:
    return learning_rate_factor({**SETTINGS, **changed, "lr_schedule": schedule}, done)


@pytest.mark.parametrize("done", [0, 3.5, 1000])
def test_constant(done: float) -> None:
    assert factor("constant", done) == 1


@pytest.mark.parametrize(("done", "wanted"), [(0, 1), (4, 0.5), (8, 0.25), (2, math.sqrt(0.5))])
def test_exponential_falls_continuously(done: float, wanted: float) -> None:
    assert factor("exponential", done) == pytest.approx(wanted)


@pytest.mark.parametrize(("done", "wanted"), [(1, 0.5), (2, 1), (6, 0.55), (10, 0.1), (12, 0.1)])
def test_cosine_warms_up_and_ends_at_the_minimum(done: float, wanted: float) -> None:
    assert factor("cosine", done) == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize(("done", "wanted"), [(1, 0.5), (2, 1), (4, 0.775), (10, 0.1), (12, 0.1)])
def test_linear_warms_up_and_ends_at_the_minimum(done: float, wanted: float) -> None:
    assert factor("linear", done) == pytest.approx(wanted, abs=1e-3)


def test_cosine_first_step_moves_and_no_warmup_starts_at_the_top() -> None:
    assert 0 < factor("cosine", 0) < 0.01
    assert factor("cosine", 0, warmup_epochs=0) == 1


def test_cosine_with_warmup_as_long_as_training() -> None:
    assert factor("cosine", 10, warmup_epochs=10) == pytest.approx(1, abs=1e-3)
