"""Means, Holm, paired tests and per-user metrics, by hand and against scipy called by itself."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from recbole_llm.report.statistics import (
    holm,
    improvement,
    mean_std,
    paired_tests,
)
from recbole_llm.report.user_metrics import user_metric


def test_mean_and_sample_deviation_by_hand() -> None:
    mean, std = mean_std([0.1, 0.2, 0.6])
    # deviations -.2 -.1 .3; squares .04 .01 .09; their sum .14 over 2
    assert mean == pytest.approx(0.3) and std == pytest.approx(0.07**0.5)
    assert mean_std([0.5]) == (0.5, None)


def test_improvement_by_hand() -> None:
    assert improvement(0.12, 0.1) == pytest.approx(20)
    assert improvement(0.05, 0.1) == pytest.approx(-50)
    assert improvement(0.1, 0.0) is None


def test_holm_by_hand() -> None:
    # sorted: .01 * 4, .02 * 3, .03 * 2 (not below .06), .5 * 1
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_paired_tests_are_two_sided_and_scipys() -> None:
    rng = np.random.default_rng(0)
    ours, other = rng.random(60), rng.random(60)
    ours[:20] = other[:20]  # users without a difference
    found = paired_tests(ours, other)
    by_t = stats.ttest_1samp(ours - other, 0.0, alternative="two-sided").pvalue
    by_rank = stats.wilcoxon(
        ours, other, zero_method="pratt", correction=False, method="asymptotic"
    )
    assert found.t == pytest.approx(by_t)
    assert found.wilcoxon == pytest.approx(by_rank.pvalue)
    assert paired_tests(other, ours) == pytest.approx(found)
    assert paired_tests(ours, ours) == (1.0, 1.0)


def test_per_user_metrics_by_hand(tmp_path: Path) -> None:
    lists = tmp_path / "topk-test.jsonl"
    rows = [
        {"user": "a", "items": ["x"] * 5, "hits": [0, 2, 4], "n_positives": 4},
        {"user": "b", "items": ["x"] * 5, "hits": [], "n_positives": 1},
    ]
    lists.write_text("\n".join(map(json.dumps, rows)))
    assert user_metric(lists, "recall@3") == {"a": 0.5, "b": 0}
    assert user_metric(lists, "precision@3") == {"a": pytest.approx(2 / 3), "b": 0}
    assert user_metric(lists, "hit@1") == {"a": 1, "b": 0}
    assert user_metric(lists, "mrr@3") == {"a": 1, "b": 0}
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert user_metric(lists, "ndcg@3") == {"a": pytest.approx((1 + 1 / 2) / ideal), "b": 0}
    assert user_metric(lists, "gauc") is None and user_metric(tmp_path / "no", "hit@1") is None
    lists.write_text('{"user": "a", "items": ["x"]}\n')
    assert user_metric(lists, "hit@1") is None, "an older program kept no hits"


def test_a_user_with_several_lists_counts_once(tmp_path: Path) -> None:
    # RecBole's sequential models rank once for each held-out interaction.
    lists = tmp_path / "topk.jsonl"
    rows = [("ann", [0]), ("ann", []), ("bob", [3])]
    lines = [
        {"user": user, "hits": hits, "n_positives": 1, "items": [1] * 5} for user, hits in rows
    ]
    lists.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert user_metric(lists, "recall@5") == {"ann": 0.5, "bob": 1.0}
