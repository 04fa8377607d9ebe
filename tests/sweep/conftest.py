"""A sweep whose runs cost nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from recbole_llm import quick_start
from recbole_llm.quick_start import Hooks
from recbole_llm.record import RunRecord


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Replace runs by a function of their settings; returns the settings of those that ran."""

    def install(value: Callable[[dict[str, Any]], float]) -> list[dict[str, Any]]:
        ran: list[dict[str, Any]] = []

        def run(model: str, dataset: str, *, hooks: Hooks, **settings: Any) -> RunRecord:
            ran.append({"test": hooks.evaluate_test, **settings})
            valid = value(settings)
            for epoch in range(3):
                if hooks.on_validation:
                    hooks.on_validation(epoch, valid)
            record = RunRecord("id", model, dataset, "loo", settings["seed"], {}, "", "runs/id")
            # Test would choose the other end of the space, and so would NDCG@10.
            both = {"recall@20": valid, "ndcg@10": -valid}
            record.metrics = {"valid": both, "test": {"recall@20": -valid}}
            return record

        monkeypatch.setattr(quick_start, "run", run)
        return ran

    return install
