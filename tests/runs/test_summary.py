"""The text that ends a run."""

from recbole_llm.record import RunRecord, Stage
from recbole_llm.runs.summary import run_summary


def test_summary_shows_metrics_stages_and_place() -> None:
    record = RunRecord("id", "HeLLM", "sports", "loo", 7, {}, "hash", "runs/id")
    record.metrics = {
        "valid": {"recall@10": 0.5},
        "test": {"recall@20": 0.25, "ndcg@10": 0.125, "hit@5": 1.0, "mrr@5": 0.0},
    }
    record.stages = [
        Stage("data", 1.25, 2**20),
        Stage("graph", 0.5, 3 * 2**20, 1000, 4000, cached_from_s=61.0),
    ]
    text = run_summary(record)
    assert "HeLLM on sports (loo, seed 7)" in text
    assert "valid  R@10 0.5000\n" in text
    assert "test   R@20 0.2500  N@10 0.1250  H@5 1.0000  mrr@5 0.0000\n" in text
    assert "0.5 (cached; 61.0)" in text and "1,000 (25.00%)" in text
    assert text.endswith("record: runs/id/record.json")
