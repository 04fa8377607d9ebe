"""Labels and negative items are there, or the run is refused with what to do (kind 3)."""

import re
from pathlib import Path
from typing import Any

import pytest

from recbole_llm.config import Config
from recbole_llm.data.loading import load_split

LABELED = {"eval_args.mode": "labeled", "valid_metric": "AUC", "metrics": ["AUC"]}
ERRORS = {"eval_args.mode": "labeled", "valid_metric": "RMSE", "metrics": ["MAE", "RMSE"]}
NONE = {"train_neg_sample_args": None}
FOUR = {"threshold": {"rating": 4}}
DRAWN = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}
DYNAMIC = {"train_neg_sample_args.dynamic": True, "train_neg_sample_args.candidate_num": 2}

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    # threshold without effect (RecBole #2066, #1862)
    ("LightGCN", FOUR, "threshold={'rating': 4} (config dict) has no effect on model LightGCN"),
    ("LightGCN", FOUR, "--val_interval=\"{rating: '[4,inf)'}\"."),
    ("SASRec", FOUR, "has no effect on model SASRec"),
    ("Pop", FOUR, "has no effect on model Pop"),
    ("NeuMF", FOUR, "no effect on the training of NeuMF beside train_neg_sample_args"),
    ("FM", {**FOUR, **DRAWN}, "no effect on the training of FM beside train_neg_sample_args"),
    ("FM", {**FOUR, **LABELED, "eval_args.mode": "uni9"}, "Set --eval_args.mode=labeled."),
    # a label that nothing makes (RecBole #1977, #1535, #1073, #1790)
    ("FM", {}, "model FM learns from labels, and column 'label' (LABEL_FIELD) is not loaded."),
    ("DeepFM", {}, '--threshold="{rating: 4}"'),
    ("DeepFM", {}, "by --LABEL_FIELD and in load_col, or set --train_neg_sample_args="),
    ("NeuMF", NONE, "model NeuMF learns from labels"),
    ("ItemKNN", ERRORS, "eval_args.mode=labeled needs labels, and column 'label' (LABEL_FIELD)"),
    ("LightGCN", LABELED, "eval_args.mode=labeled needs labels"),
    # negative items that nothing draws (RecBole #1776)
    ("LightGCN", NONE, "LightGCN compares items with negative ones, and train_neg_sample_args"),
    ("BPR", NONE, '--train_neg_sample_args="{distribution: uniform, sample_num: 1}"'),
    ("SASRec", {"loss_type": "BPR", **NONE}, "model SASRec compares items with negative ones"),
    ("MultiVAE", DYNAMIC, "dynamic (config dict) has no effect on model MultiVAE"),
    ("SASRecCausal", {**DRAWN, **DYNAMIC}, "no effect on model SASRecCausal"),
    # a ranking of labeled rows (RecBole #1473, #2035)
    ("FM", {**FOUR, "eval_args.mode": "labeled"}, "Recall, NDCG (default) rank items, and eval"),
]
ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    ("FM", FOUR),
    ("FM", {**FOUR, **LABELED}),
    ("FM", DRAWN),
    ("FM", {"LABEL_FIELD": "rating"}),
    ("FM", {"load_col": None}),
    ("NeuMF", {**FOUR, **NONE}),
    ("NeuMF", {}),
    ("DIN", {}),
    ("DIEN", {}),
    ("ItemKNN", {**FOUR, **ERRORS}),
    ("LightGCN", {**FOUR, **LABELED}),
    ("MultiVAE", NONE),
    ("BM3", {}),
    ("SASRec", NONE),
    ("BERT4Rec", {"loss_type": "BPR", **NONE}),
    ("SASRecCausal", NONE),
]


def configured(model: str, settings: dict[str, Any], **more: Any) -> Config:
    columns = {"load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}}
    return Config(model, "mine", overrides={**columns, **settings, **more})


@pytest.mark.parametrize(("model", "settings", "message"), REFUSED, ids=str)
def test_refused(model: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        configured(model, settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("model", "settings"), ACCEPTED, ids=str)
def test_accepted(model: str, settings: dict[str, Any]) -> None:
    configured(model, settings)


def test_a_class_derived_from_a_models_is_checked_as_it(work: Path, monkeypatch: Any) -> None:
    text = "from recbole.model.general_recommender import NeuMF\nclass Mine(NeuMF): pass\n"
    (work / "own_neumf.py").write_text(text)
    monkeypatch.syspath_prepend(work)
    settings = {"mf_embedding_size": 8, "mlp_embedding_size": 8, "mlp_hidden_size": [8], **NONE}
    with pytest.raises(ValueError, match="model Mine learns from labels"):
        (work / "own.yaml").write_text(str(settings).replace("None", "null"))
        Config("own_neumf:Mine", "mine", [work / "own.yaml"])


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("user_id:token\titem_id:token", "no column 'label' (LABEL_FIELD; --threshold makes one"),
        ("user_id:token\titem_id:token\tlabel:token", "has type token, expected float"),
    ],
)
def test_the_label_column_is_looked_up_in_the_file(header: str, message: str, work: Path) -> None:
    folder = work / "dataset" / "mine"
    folder.mkdir(parents=True)
    (folder / "mine.inter").write_text(f"{header}\n")
    config = Config("FM", "mine", overrides={"load_col": None, "data_path": str(work / "dataset")})
    with pytest.raises(ValueError, match=re.escape(message)):
        load_split(config)
