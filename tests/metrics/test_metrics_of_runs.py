"""The metrics in runs: measured, verified, equal by both loops, refused where they cannot be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metric_lists import CUT

from recbole_llm.config import Config
from recbole_llm.record import RunRecord
from recbole_llm.report.statistics import smaller_is_better
from recbole_llm.report.text import short_metric
from recbole_llm.runs.loaded import load
from recbole_llm.runs.rankings import read_rankings
from recbole_llm.runs.verify import verify_run

Train = Callable[..., RunRecord]
ALL: dict[str, Any] = {
    "metrics": CUT,
    "topk": [2, 10],
    "valid_metric": "Recall@10",
    "diversity_modality": "genre",
}


@pytest.mark.parametrize("model", ["ItemKNN", "GRU4Rec"])
def test_a_run_with_all_metrics_is_verified(model: str, runner: Train) -> None:
    small = {"MAX_ITEM_LIST_LENGTH": 5, "hidden_size": 8} if model == "GRU4Rec" else {}
    record = runner(model, save_topk=10, **ALL, **small)
    assert len(record.metrics["test"]) == 2 * len(CUT) >= 40
    text = verify_run(record.folder).text
    assert text.endswith("\nverified"), text
    assert text.count("agrees") == 2 * 2 * (len(CUT) - 1)
    assert "not checked: test intralistdiversity@2, which does not follow from the lists" in text


def test_a_changed_metric_differs(runner: Train) -> None:
    record = runner("Pop", save_topk=10, **ALL)
    for metric in ("rbp", "novelty", "popularitylift", "personalization", "usergroupgap"):
        record.metrics["test"][f"{metric}@10"] += 1e-5
    record.save()
    differing = [x for x in verify_run(record.folder).text.splitlines() if "DIFFERS" in x]
    assert len(differing) == 5 and all(line.startswith("test ") for line in differing)


def test_recboles_loop_gives_the_same_numbers(runner: Train) -> None:
    """GAUC needs the whole ranking, which RecBole's own loop makes."""
    record = runner("LightGCN", **ALL)
    again = runner("LightGCN", **(ALL | {"metrics": [*CUT, "GAUC"]}))
    assert "gauc" in again.metrics["test"]
    for part, values in record.metrics.items():
        without = {name: value for name, value in again.metrics[part].items() if name != "gauc"}
        assert without == pytest.approx(values, rel=0, abs=1e-6)


def test_users_profiles_and_groups_are_those_of_the_data(runner: Train) -> None:
    """Two metrics again from the saved lists and RecBole's own rows of the split."""
    metrics = ["ActiveUserRecall", "PopularityLift"]
    record = runner("ItemKNN", metrics=metrics, topk=[5], valid_metric=f"{metrics[0]}@5",
                    save_topk=5, active_users=0.3)  # fmt: skip
    run = load(record.folder)
    users, items = (run.split.train.inter_feat[field].numpy() for field in ("user_id", "item_id"))
    held_user, held_item = (run.split.test.inter_feat[f].numpy() for f in ("user_id", "item_id"))
    evaluated = np.unique(held_user).tolist()
    size = {user: int((users == user).sum()) for user in evaluated}
    active = sorted(evaluated, key=lambda user: (-size[user], user))
    active = active[: round(0.3 * len(evaluated))]
    tokens = {user: run.split.dataset.id2token("user_id", user) for user in evaluated}
    lists = {row.user: row.items for row in read_rankings(Path(record.files["topk_test"]))}
    ids = {user: run.split.dataset.token2id("item_id", lists[tokens[user]]) for user in evaluated}
    recall = [np.isin(held_item[held_user == u], ids[u]).mean() for u in active]
    assert record.metrics["test"]["activeuserrecall@5"] == pytest.approx(np.mean(recall), abs=1e-6)
    count = np.bincount(items)
    shown = np.mean([count[ids[user]].mean() for user in evaluated])
    owned = np.mean([count[items[users == user]].mean() for user in evaluated])
    lift = record.metrics["test"]["popularitylift@5"]
    assert lift == pytest.approx(shown / owned - 1, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": ["Noveltie"]}, r"unknown metric 'Noveltie' .*Did you mean 'novelty'\?"),
        (
            {"metrics": ["IntraListDiversity"]},
            r"IntraListDiversity \(command line\) compares items by the features of a modality: "
            r"set --diversity_modality to one of text, genre, got None \(default\)",
        ),
        (
            {"metrics": ["IntraListDiversity"], "diversity_modality": "image"},
            r"one of text, genre, got 'image' \(command line\)",
        ),
        (
            {"metrics": ["IntraListDiversity"], "diversity_modality": "genre", "topk": [1, 5]},
            r"IntraListDiversity \(command line\) compares pairs of items: topk must be at least 2",
        ),
        (
            {"metrics": ["UserGroupGap"], "eval_args.mode": "uni50"},
            r"UserGroupGap \(command line\) compares users, .*set --eval_args.mode=full",
        ),
        ({"active_users": 1}, r"active_users must be a number in \(0, 1\), got active_users=1 "),
        ({"rbp_persistence": 0}, r"rbp_persistence must be a number in \(0, 1\), got"),
    ],
)
def test_what_a_metric_lacks_is_said_before_a_run(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config("LightGCN", "ml-100k", command_line=settings)


def test_directions_and_short_names() -> None:
    smaller = {name for name in CUT if smaller_is_better(f"{name}@10")}
    assert smaller == {"giniindex", "averagepopularity", "popularitylift", "usergroupgap"}
    assert short_metric("intralistdiversity@10") == "ILD@10"
    assert short_metric("UserGroupGap@5".lower()) == "usergroupgap@5 ↓"
    assert Config("LightGCN", "ml-100k")["valid_metric_bigger"]
    gap = {"metrics": ["UserGroupGap"], "valid_metric": "UserGroupGap@10"}
    assert not Config("LightGCN", "ml-100k", command_line=gap)["valid_metric_bigger"]
