"""Whole runs on a small ml-100k: any kind of model, its record, and the same numbers again."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recbole_llm
from recbole_llm.files import sha256_of
from recbole_llm.record import RunRecord
from recbole_llm.runs.summary import run_summary
from recbole_llm.trainer.checkpoint import load_checkpoint

Train = Callable[..., RunRecord]

# One of every way in which a model is trained: pairs, lists of a user, all at once, neighbours,
# a closed form, counts, samples of sequences, windows, and trainers of RecBole's own.
MODELS: dict[str, dict[str, Any]] = {
    "BPR": {},
    "LightGCN": {},
    "MultiVAE": {},
    "ItemKNN": {},
    "EASE": {},
    "Pop": {},
    "SASRec": {"train_batch_size": 4096, "MAX_ITEM_LIST_LENGTH": 10, "inner_size": 32},
    "SASRecCausal": {},
    "GRU4Rec": {"train_batch_size": 4096, "MAX_ITEM_LIST_LENGTH": 10},
    "Caser": {"train_batch_size": 4096, "MAX_ITEM_LIST_LENGTH": 10},
    "BERT4Rec": {"train_batch_size": 4096, "MAX_ITEM_LIST_LENGTH": 10, "inner_size": 32},
    "RecVAE": {},
    "RaCT": {"train_stage": "actor_pretrain", "pretrain_epochs": 1, "save_step": 1},
    "FM": {"eval_args.mode": "uni50", "metrics": ["Recall"]},
}


def is_number(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


@pytest.mark.parametrize("model", MODELS)
def test_one_epoch(model: str, runner: Train) -> None:
    record = runner(model, save_topk=20, **MODELS[model])
    assert record.status == "finished" and record.error == ""
    assert record.best_epoch == 0
    for part in ("valid", "test"):
        assert all(0 <= value <= 1 for value in record.metrics[part].values())
        assert "recall@10" in record.metrics[part]
    assert load_checkpoint(Path(record.files["checkpoint"]))["state_dict"] is not None
    assert len(record.epochs) == 1 and is_number(record.epochs[0]["loss"])


def test_pretrained_stage_of_a_recbole_model_is_taken_up(runner: Train, work: Path) -> None:
    runner("RaCT", train_stage="actor_pretrain", pretrain_epochs=1, save_step=1)
    (pretrained,) = (work / "saved").glob("RaCT-ml-100k-1.pth")
    record = runner("RaCT", train_stage="finetune", pre_model_path=str(pretrained))
    assert record.status == "finished" and len(record.epochs) == 1


def test_s3rec_is_pretrained_and_finetuned(runner: Train, work: Path) -> None:
    settings = {
        "train_batch_size": 4096,
        "MAX_ITEM_LIST_LENGTH": 10,
        "inner_size": 32,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class"]},
    }
    runner("S3Rec", train_stage="pretrain", pretrain_epochs=1, save_step=1, **settings)
    pretrained = work / "saved" / "S3Rec-ml-100k-1.pth"
    record = runner("S3Rec", train_stage="finetune", pre_model_path=str(pretrained), **settings)
    assert record.status == "finished" and len(record.epochs) == 1


def test_scores_are_better_than_chance_after_training(runner: Train) -> None:
    pop = runner("Pop").metrics["test"]["recall@20"]
    knn = runner("ItemKNN").metrics["test"]["recall@20"]
    ease = runner("EASE", reg_weight=100.0).metrics["test"]["recall@20"]
    assert pop > 2 * 20 / 1265
    assert knn > pop and ease > pop


def test_record_on_disk_is_the_record_returned(runner: Train, work: Path) -> None:
    record = runner("LightGCN", epochs=2)
    folder = work / record.folder
    assert json.loads((folder / "record.json").read_text()) == dataclasses.asdict(record)
    assert RunRecord.load(folder) == record
    assert [path.name for path in folder.iterdir()] == ["record.json"]


def test_record_says_all_that_a_report_needs(runner: Train, small_ml100k: Path) -> None:
    record = runner("LightGCN", epochs=2, seed=7, n_layers=1)
    assert (record.model, record.dataset, record.protocol) == ("LightGCN", "ml-100k", "random811")
    assert record.seed == 7 and record.config["seed"] == 7 and record.config["n_layers"] == 1
    assert record.config["learning_rate"] == 1e-3  # a default is resolved
    assert record.config["eval_args"]["split"] == {"RS": [0.8, 0.1, 0.1]}
    assert set(record.data["files"]) == {"ml-100k.inter", "ml-100k.item"}
    digests = [record.data["split"], record.config_hash, *record.data["files"].values()]
    assert all(len(digest) == 64 for digest in digests)
    lines = (small_ml100k / "ml-100k" / "ml-100k.inter").read_text().splitlines()
    assert record.data["n_users"] == 120 and record.data["n_items"] == 1265
    assert sum(record.data["n_interactions"]) == len(lines) - 1
    names = {f"{metric}@{k}" for metric in ("recall", "ndcg") for k in (10, 20)}
    assert set(record.metrics["valid"]) == set(record.metrics["test"]) == names
    assert record.best_epoch in (0, 1)
    best = record.epochs[record.best_epoch]
    assert best["valid"] == record.metrics["valid"]
    assert [stage.name for stage in record.stages] == ["data", "training", "evaluation"]
    assert all(stage.seconds > 0 and stage.peak_bytes > 2**20 for stage in record.stages)
    n_parameters = 64 * (121 + 1266)
    assert record.stages[1].trainable == record.stages[1].parameters == n_parameters
    versions = record.environment["versions"]
    assert versions["recbole"] == "1.2.1" and versions["torch"] == torch.__version__
    assert versions["recbole-llm"] == recbole_llm.__version__ and versions["python"]
    commit = record.environment["git_commit"]
    assert commit is None or len(commit.rstrip("+")) == 40
    assert record.environment["device"] and record.environment["threads"] == 1
    assert record.started <= record.finished and record.command


def test_same_seed_same_numbers_another_seed_another_split(runner: Train) -> None:
    one, two, other = runner("LightGCN"), runner("LightGCN"), runner("LightGCN", seed=1)
    assert one.id != two.id and one.config_hash == two.config_hash != other.config_hash
    assert one.metrics == two.metrics and one.data == two.data
    assert one.epochs[0]["loss"] == two.epochs[0]["loss"]
    assert one.data["split"] != other.data["split"]
    assert one.data["files"] == other.data["files"]
    assert one.metrics != other.metrics


def test_leave_one_out_does_not_depend_on_the_seed(runner: Train) -> None:
    one, two = runner("BPR", protocol="loo"), runner("BPR", protocol="loo", seed=1)
    assert one.data["split"] == two.data["split"]
    assert one.data["n_interactions"][1:] == [120, 120]
    assert one.metrics != two.metrics


def test_a_recbole_graph_model_trains_on_the_same_split(runner: Train) -> None:
    assert runner("LightGCN").data["split"] == runner("NGCF").data["split"]


def test_epochs_zero_evaluates_the_untrained_model(runner: Train) -> None:
    record = runner("LightGCN", epochs=0)
    assert record.status == "finished" and record.epochs == []
    assert record.metrics["test"]["recall@20"] < 0.06


def test_catalogue_and_score_metrics_in_a_run(runner: Train) -> None:
    names = ["Recall", "GAUC", "ItemCoverage", "GiniIndex", "MRR"]
    found = runner("BPR", metrics=names).metrics["test"]
    assert 0.3 < found["gauc"] < 0.9
    assert 0 < found["itemcoverage@10"] <= found["itemcoverage@20"] <= 1
    assert found["mrr@10"] <= found["mrr@20"]
    fast = runner("BPR", metrics=["Recall", "ItemCoverage", "GiniIndex", "MRR"]).metrics["test"]
    assert fast == {name: found[name] for name in fast}, "RecBole's loop and ours agree"


def test_saved_lists_hold_the_best_items_by_token(runner: Train, work: Path) -> None:
    record = runner("ItemKNN", save_topk=30)
    rows = [json.loads(line) for line in open(record.files["topk_test"], encoding="utf-8")]
    assert {row["user"] for row in rows} <= {str(user) for user in range(1, 121)}
    assert len({row["user"] for row in rows}) == len(rows)
    for row in rows:
        assert len(row["items"]) == len(row["scores"]) == len(set(row["items"])) == 30
        assert row["scores"] == sorted(row["scores"], reverse=True)
        assert "[PAD]" not in row["items"]


def test_a_failed_run_says_so_in_its_record(runner: Train, work: Path) -> None:
    with pytest.raises(ValueError, match="training loss of epoch 0 is NaN"):
        runner("LightGCN", learner="sgd", learning_rate=100, reg_weight=1e30)
    (path,) = (work / "runs").glob("*/record.json")
    record = RunRecord.load(path)
    assert record.status == "failed" and "ValueError: the training loss" in record.error
    assert record.finished and [stage.name for stage in record.stages] == ["data", "training"]


def test_an_interrupted_run_says_so(
    runner: Train, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recbole_llm.quick_start.evaluate", stop)
    with pytest.raises(KeyboardInterrupt):
        runner("Pop")
    (path,) = (work / "runs").glob("*/record.json")
    assert RunRecord.load(path).status == "interrupted"


MY_MODEL = '''
import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType


class Constant(GeneralRecommender):
    """Prefers the items that come first."""

    input_type = InputType.PAIRWISE

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.scale = torch.nn.Parameter(torch.tensor(float(config["my_scale"])))

    def calculate_loss(self, interaction):
        return self.scale**2

    def full_sort_predict(self, interaction):
        n = len(interaction[self.USER_ID])
        return (-self.scale * torch.arange(self.n_items)).repeat(n)
'''


def test_a_users_own_model_in_a_process_of_its_own(cli: Any, small_ml100k: Path) -> None:
    (cli.work / "code").mkdir()
    (cli.work / "code" / "my_mod.py").write_text(MY_MODEL)
    (cli.work / "code" / "Constant.yaml").write_text("my_scale: 2.0\nlearning_rate: 1e-2\n")
    done = cli(
        "--model=my_mod:Constant",
        f"--data_path={small_ml100k}",
        "--dataset=ml-100k",
        "--epochs=2",
        "--my_scale=3",
        env={"PYTHONPATH": str(cli.work / "code")},
    )
    assert done.returncode == 0, done.stderr
    (path,) = (cli.work / "runs").glob("*-Constant-ml-100k-*/record.json")
    record = RunRecord.load(path)
    assert record.config["my_scale"] == 3 and record.config["learning_rate"] == 1e-2
    assert record.epochs[0]["loss"] == pytest.approx(9, rel=0.1)
    assert record.stages[1].trainable == 1
    out = done.stdout
    assert "Constant on ml-100k (random811, seed 2020)" in out
    for part in ("valid", "test"):
        metrics = record.metrics[part]
        line = f"R@10 {metrics['recall@10']:.4f}  R@20 {metrics['recall@20']:.4f}"
        assert any(row.startswith(part) and line in row for row in out.splitlines())
    assert f"record: {record.folder}/record.json" in out
    assert (cli.work / record.files["log"]).read_text().count("epoch ") >= 2


@pytest.mark.parametrize("leaky", [False, True])
def test_record_and_summary_name_a_profile_set_and_whether_it_leaks(
    runner: Train, work: Path, leaky: bool
) -> None:
    folder, mark = work / "profiles", ".LEAKY" if leaky else ""
    folder.mkdir()
    np.save(folder / f"user_profile_feat{mark}.npy", np.eye(100, 4, dtype=np.float32))
    names = "".join(f"{i}\n" for i in range(1, 101))
    (folder / f"user_profile_ids{mark}.txt").write_text(names)
    settings = {
        "user_profile": str(folder),
        "modalities": {"genre": {"multi_hot": "class"}},
        "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class"]},
    }
    content = {"leaky": leaky, "files": {path.name: sha256_of(path) for path in folder.iterdir()}}
    (folder / "report.json").write_text(json.dumps(content | {"split": "another"}))
    with pytest.raises(ValueError, match="written for another split"):
        runner("MLLMRec", **settings)
    split = runner("FREEDOM", **{k: v for k, v in settings.items() if k != "user_profile"}).data[
        "split"
    ]
    (folder / "report.json").write_text(json.dumps(content | {"split": split}))
    record = runner("MLLMRec", **settings)
    (found,) = record.data["user_profiles"].values()
    assert found["leaky"] is leaky and len(found["sha256"]) == 64
    assert found["missing_users"] == 116  # rows of the identity beyond the fourth are zero
    assert ("LEAKY" in run_summary(record)) is leaky
