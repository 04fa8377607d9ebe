"""The metrics in runs: measured, verified, equal by both loops, refused where they cannot be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metric_lists import CUT

from recbole_llm.cli.main import main
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


def test_warm_items_are_measured_apart(runner: Train) -> None:
    """The warm positives alone, in the saved lists."""
    record = runner("ItemKNN", topk=[10], valid_metric="Recall@10", save_topk=10)
    run, group = load(record.folder), record.metrics_cold["test"]["warm_items"]
    trained = set(run.split.train.inter_feat["item_id"].tolist())
    users, items = (run.split.test.inter_feat[f].tolist() for f in ("user_id", "item_id"))
    rows = zip(users, items, strict=True)
    warm = [(user, item) for user, item in rows if item in trained]
    assert group["n_interactions"] == len(warm) < len(run.split.test)
    assert group["n_users"] == len({user for user, _ in warm})
    recalls = []
    for ranking in read_rankings(Path(record.files["topk_test"])):
        user = run.split.dataset.token2id("user_id", ranking.user)
        held = {item for one, item in warm if one == user}
        listed = set(run.split.dataset.token2id("item_id", ranking.items).tolist())
        recalls += [len(held & listed) / len(held)] if held else []
    assert group["recall@10"] == pytest.approx(np.mean(recalls), abs=1e-6)
    assert "test warm_items: 4 values as recorded" in verify_run(record.folder).text


def test_cold_and_warm_users_make_up_the_part(runner: Train, own_ml100k: Path) -> None:
    options = ["--protocol=global_time", "--unseen_users=keep", "--name=time"]
    command = ["split", "--dataset=ml-100k", f"--data_path={own_ml100k}", *options]
    assert main(command) == 0
    record = runner("ItemKNN", split="time", data_path=str(own_ml100k), save_topk=20)
    groups = [record.metrics_cold["test"][f"{kind}_users"] for kind in ("cold", "warm")]
    n_users = [group["n_users"] for group in groups]
    assert min(n_users) > 0
    for metric, value in record.metrics["test"].items():
        both = np.average([group[metric] for group in groups], weights=n_users)
        assert value == pytest.approx(both, abs=2e-6)
    assert sum(group["n_interactions"] for group in groups) == record.data["n_interactions"][2]
    path = Path(record.folder) / "record.json"
    assert verify_run(path).agrees
    record.metrics_cold["test"]["warm_users"]["recall@10"] += 0.01
    record.save()
    assert "test warm_users recall@10: recorded" in verify_run(path).text
    del record.metrics_cold["test"]["warm_users"]
    record.save()
    assert (
        "not checked: test metrics of warm_users, which the record lacks" in verify_run(path).text
    )
