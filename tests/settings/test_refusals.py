"""A run refuses wrong settings before anything is read, with one line that names them."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from recbole_llm.config import Config
from recbole_llm.yaml_io import properties_dir

# -- what a run refuses -----------------------------------------------------------------------

WHOLE = "must be an integer >= 1, got"
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    # sizes
    ("LightGCN", {"embedding_size": 0}, f"embedding_size {WHOLE} embedding_size=0 (command line)."),
    ("LightGCN", {"embedding_size": -5}, f"embedding_size {WHOLE} embedding_size=-5"),
    ("LightGCN", {"embedding_size": 1.5}, f"embedding_size {WHOLE} embedding_size=1.5"),
    ("LightGCN", {"embedding_size": 10**12}, "The largest integer is 2147483647."),
    ("LightGCN", {"n_layers": -1}, "n_layers must be an integer >= 0, got n_layers=-1"),
    ("LightGCN", {"n_layers": 1.5}, "n_layers must be an integer >= 0, got n_layers=1.5"),
    ("LightGCN", {"n_layers": True}, "n_layers must be an integer >= 0, got n_layers=True"),
    ("LGMRec", {"n_hyper_layers": 0}, f"n_hyper_layers {WHOLE} n_hyper_layers=0"),
    ("LGMRec", {"n_hyperedges": 0}, f"n_hyperedges {WHOLE} n_hyperedges=0"),
    ("SASRecCausal", {"MAX_ITEM_LIST_LENGTH": 0}, f"MAX_ITEM_LIST_LENGTH {WHOLE}"),
    ("SRGFormer", {"n_heads": 2.5}, f"n_heads {WHOLE} n_heads=2.5"),
    ("GALRec", {"n_hops": 4}, "n_hops must be an integer in 1..3, got n_hops=4"),
    ("GALRec", {"gal_rows": 0}, "gal_rows must be an integer >= 1, or none, got gal_rows=0"),
    # rates and weights
    ("LightGCN", {"reg_weight": -5}, "reg_weight must be a number >= 0, got reg_weight=-5"),
    ("LightGCN", {"reg_weight": 1e300}, "It must be finite, in float32 too."),
    ("LightGCN", {"learning_rate": 1e300}, "learning_rate must be a number in (0, 100], got"),
    ("LightGCN", {"learning_rate": 1e38}, "learning_rate must be a number in (0, 100], got"),
    ("LightGCN", {"weight_decay": -1}, "weight_decay must be a number >= 0"),
    ("LGMRec", {"temperature": 0}, "temperature must be a number > 0, got temperature=0"),
    ("HeLLMPretrain", {"temperature": -1}, "temperature must be a number > 0"),
    ("FREEDOM", {"edge_dropout": 1.5}, "edge_dropout must be a number in [0, 1), got"),
    ("GALRec", {"momentum": 2.0}, "momentum must be a number in [0, 1], got momentum=2.0"),
    ("HeLLM", {"lr_schedule": "cos"}, "cosine or linear, got lr_schedule='cos'"),
    ("HeLLM", {"adam_betas": [0.9]}, "adam_betas must be two numbers in [0, 1), got"),
    # words
    ("HeLLM", {"head_init": "item"}, "items, or none, got head_init='item' (command line). Did"),
    ("GALRec", {"external_embedding": "bert"}, "must be lightgcn, sasrec or text, got"),
    (
        "E4SRec",
        {"external_embedding": "text"},
        "external_embedding must be lightgcn or sasrec, got",
    ),
    ("LlamaRec", {"n_candidates": 27}, "n_candidates must be an integer in 2..26, got"),
    ("LlamaRec", {"train_candidates": "all"}, "train_candidates must be retrieved or random, got"),
    ("LightGCN", {"state": "__class__"}, "state must be debug, info, warning, error or critical"),
    ("LightGCN", {"missing_modality": "skip"}, "missing_modality must be zero, mean or error"),
    ("SASRecCausal", {"loss_type": "BPR"}, "loss_type must be CE, got loss_type='BPR'"),
    ("SASRecCausal", {"hidden_act": "glu"}, "Did you mean 'gelu'?"),
    # what relates to another setting
    ("SRGFormer", {"n_heads": 7}, "embedding_size must be divisible by n_heads, got 256 and 7"),
    ("SASRecCausal", {"n_heads": 7}, "hidden_size must be divisible by n_heads, got 64 and 7"),
    ("HeLLM", {"use_graph_id": False, "use_seq_id": False}, "no embedding is left for the items"),
    ("HeLLM", {"pool_dim": 65}, "pool_dim must be in 1..64, the graph embeddings' width"),
    ("FREEDOM", {"modality_weights": {"text": 2}, "modalities": ["text", "genre"]}, "at most 1"),
    ("FREEDOM", {"modality_weights": {"text:0.1": None}}, "with a space after the colon"),
    ("FREEDOM", {"modality_weights": {"text": "x"}}, "modality_weights.text must be a number >= 0"),
    (
        "GALRec",
        {"external_embedding": "text", "text_modality": "words"},
        "has no modality 'words', it has: text, genre",
    ),
    # RecBole's own models
    ("BPR", {"embedding_size": 0}, f"embedding_size {WHOLE} embedding_size=0"),
    ("SASRec", {"n_layers": 0}, f"n_layers {WHOLE} n_layers=0"),
    ("SASRec", {"hidden_dropout_prob": 1.5}, "hidden_dropout_prob must be a number in [0, 1)"),
    ("SASRec", {"MAX_ITEM_LIST_LENGTH": -1}, f"MAX_ITEM_LIST_LENGTH {WHOLE}"),
    ("ItemKNN", {"k": 0}, f"k {WHOLE} k=0"),
    ("SASRec", {"hidden_act": "foo"}, "hidden_act must be gelu, relu, swish, tanh or sigmoid"),
    ("SASRec", {"loss_type": "ce"}, "loss_type must be BPR, CE, BCE or MSE, got loss_type='ce'"),
    ("BPR", {"field_separator": ""}, "field_separator must be text, got field_separator=''"),
    ("CORE", {"temperature": 0}, "temperature must be a number > 0"),
    ("SGL", {"reg_weight": -1}, "reg_weight must be a number >= 0"),
    # every run
    ("LightGCN", {"torch_threads": 10**8}, "torch_threads must be an integer in 1..1024, or none"),
    ("LightGCN", {"metric_decimal_place": -3}, "metric_decimal_place must be an integer in 0..15"),
    ("LightGCN", {"valid_metric": "NDCG"}, "'NDCG' (command line) has no cut-off; choose one of"),
    ("LightGCN", {"valid_metric": "GAUC@10", "metrics": ["GAUC"]}, "'GAUC@10' is not measured"),
    # nested keys
    ("LightGCN", {"train_neg_sample_args.num": 5}, "'train_neg_sample_args.sample_num'?"),
    ("LightGCN", {"train_neg_sample_args.sample_num": 0}, "train_neg_sample_args.sample_num must"),
    ("LightGCN", {"train_neg_sample_args.dynamic": True}, "candidate_num must be an integer >= 1"),
    ("LightGCN", {"train_neg_sample_args": 5}, "train_neg_sample_args must be a dict with the"),
    ("LightGCN", {"valid_neg_sample_args.sample_num": 5}, "unknown key 'valid_neg_sample_args'"),
    ("LightGCN", {"eval_args.spilt": {"RS": [1, 1, 1]}}, "Did you mean 'eval_args.split'?"),
    (
        "LightGCN",
        {"eval_args.split": {"RS": [0.8, 0.2]}},
        "three parts: training, validation, test",
    ),
    (
        "LightGCN",
        {"eval_args.split": {"RS": [0, 1, 1]}},
        "eval_args.split.RS must be three numbers",
    ),
    ("LightGCN", {"eval_args.split": {"LS": "valid"}}, "eval_args.split.LS must be valid_and_test"),
    (
        "LightGCN",
        {"eval_args.split": {"SR": [1, 1, 1]}},
        "(command line). Known: eval_args.split.RS",
    ),
    ("LightGCN", {"eval_args.split": {}}, "a dict with one of the keys RS, LS, TS, got"),
    ("LightGCN", {"eval_args": [1]}, "eval_args must be a dict with the keys split, order"),
    ("LightGCN", {"eval_args.mode": {"vald": "full"}}, "Did you mean 'eval_args.mode.valid'?"),
    ("LightGCN", {"eval_args.mode": "uni0"}, "eval_args.mode must be full, labeled, uniN or popN"),
    ("LightGCN", {"benchmark_filename": ["train", "test"]}, "three parts: training, validation"),
    ("LightGCN", {"clip_grad_norm": 5}, "clip_grad_norm must be a dict with the keys max_norm"),
    ("LightGCN", {"clip_grad_norm.max_nrm": 5}, "Did you mean 'clip_grad_norm.max_norm'?"),
    (
        "LightGCN",
        {"clip_grad_norm": {"norm_type": 2}},
        "clip_grad_norm must be a dict with the keys",
    ),
    ("LightGCN", {"load_col": 7}, "load_col must be a dict"),
    ("LightGCN", {"load_col.inter": "user_id"}, "load_col.inter must be a list of texts, or *"),
    ("LightGCN", {"load_col.intr": ["user_id"]}, "Did you mean 'load_col.inter'?"),
    ("LightGCN", {"modalities.genre": {"multihot": "class"}}, "'modalities.genre.multi_hot'?"),
    ("LightGCN", {"modalities.text.encodr": "x"}, "Did you mean 'modalities.text.encoder'?"),
    ("LightGCN", {"modalities.text": 5}, "modalities.text must be features.npy, {file:"),
    (
        "LightGCN",
        {"modalities": {"a": {"a": [[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]}}},
        "deeply",
    ),
    # filters that RecBole does not apply to a fixed split
    *(
        (
            "BPR",
            {"benchmark_filename": ["a", "b", "c"], key: value},
            f"{key}={value!r} (command line) has no effect on the fixed",
        )
        for key, value in {
            "val_interval": {"rating": "[4,inf)"},
            "rm_dup_inter": "first",
            "user_inter_num_interval": "[5,inf)",
        }.items()
    ),
    # stages
    ("HeLLM", {"graph_stage.n_layers": 1.5}, "graph_stage.n_layers must be an integer >= 0, got"),
    ("HeLLM", {"graph_stage.n_layer": 1}, "Did you mean 'graph_stage.n_layers'?"),
    ("HeLLM", {"graph_stage": 5}, "graph_stage must be a dict, got graph_stage=5"),
    ("HeLLM", {"sequence_stage.n_heads": 7}, "sequence_stage: hidden_size must be divisible by"),
    ("HeLLM", {"sequence_stage.eval_args.spilt": 1}, "'sequence_stage.eval_args.split'?"),
    ("GALRec", {"external_stage.learning_rate": 0}, "external_stage.learning_rate must be"),
    (
        "GALRec",
        {"external_stage.n_heads": 2},
        "unknown key 'external_stage.n_heads' (command line)",
    ),
]


@pytest.mark.parametrize(("model", "line", "message"), REFUSED, ids=str)
def test_refused(model: str, line: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        Config(model, "ml-100k", command_line=line)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=re.escape(message.replace("command line", "config dict"))):
        Config(model, "ml-100k", (), line)


def test_accepted() -> None:
    line = {
        "learner": "Adam",
        "state": "error",
        "topk": 20,
        "metrics": "NDCG",
        "valid_metric": "ndcg@20",
        "clip_grad_norm": {"max_norm": 1, "norm_type": math.inf},
        "train_neg_sample_args": {
            "distribution": "popularity",
            "dynamic": True,
            "candidate_num": 2,
        },
        "eval_args": {"split": {"LS": "valid_and_test"}, "mode": {"valid": "uni50"}},
        "load_col": {"inter": "*", "item": []},
    }
    assert Config("LightGCN", "ml-100k", command_line=line)["topk"] == [20]
    assert Config("HGN", "ml-100k", command_line={"reg_weight": [0.1, 0.1]})["reg_weight"]
    assert Config("MLLMRec", "ml-100k", command_line={"user_profile": "some/folder"})[
        "user_profile"
    ]


def test_a_models_settings_on_a_dataset_and_the_shipped_configs_are_accepted() -> None:
    for path in sorted((properties_dir() / "model").glob("*/*.yaml")):
        assert Config(path.parent.name, path.stem)
    Config("HeLLM", "ml-100k", ["properties/quick.yaml"])
    Config("GALRec", "ml-100k", ["properties/quick_galrec.yaml"])
    Config("LlamaRec", "ml-100k", ["properties/quick_llamarec.yaml"])
    Config("E4SRec", "ml-100k", ["properties/quick_e4srec.yaml"])
    stage = {"learning_rate": 1.0e-2, "epochs": 40}  # as the file has it for LightGCN
    over = {"external_embedding": "lightgcn", "external_stage": stage}
    Config("E4SRec", "ml-100k", ["properties/quick_e4srec.yaml"], over)


def test_stages_are_known_at_the_start() -> None:
    config = Config("HeLLM", "ml-100k", overrides={"graph_stage.n_layers": 1, "seed": 3})
    assert list(config.stages) == ["graph", "sequence"]
    assert (config.stages["graph"]["n_layers"], config.stages["graph"]["seed"]) == (1, 3)
    assert Config("LightGCN", "ml-100k").stages == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("load_col: 7", "got load_col=7 (dataset/mine/dataset.yaml)"),
        ("modalities: 7", "got modalities=7 (dataset/mine/dataset.yaml)"),
        (
            "modalities: [text]",
            "modality 'text' (dataset/mine/dataset.yaml) is not one of dataset 'mine', which",
        ),
        ("eval_args: {split: {RS: [0.8, 0.2]}}", "eval_args.split.RS must be three numbers"),
        ("load_col: " + "[" * 3000 + "]" * 3000, "a value is nested too deeply"),
    ],
    ids=["number", "modalities", "list", "parts", "nested"],
)
def test_settings_of_a_dataset_name_their_file(text: str, message: str, work: Path) -> None:
    folder = work / "dataset" / "mine"
    folder.mkdir(parents=True)
    (folder / "dataset.yaml").write_text(f"{text}\n")
    with pytest.raises(ValueError, match=re.escape(message)):
        Config("LightGCN", "mine")


def test_a_users_own_model_declares_or_shares(work: Path, monkeypatch: Any) -> None:
    (work / "user_settings.py").write_text(
        "from recbole.model.general_recommender.bpr import BPR\n"
        "from recbole_llm.settings.group import Settings\n"
        "from recbole_llm.settings.values import Int\n"
        "class Plain(BPR): pass\n"
        "class Declared(BPR):\n"
        "    settings = Settings(n_things=Int(2), n_layers=Int(0))\n"
        "    @classmethod\n"
        "    def check_settings(cls, config):\n"
        "        if config['n_things'] == 3: raise ValueError('not 3')\n"
    )
    (work / "Plain.yaml").write_text("embedding_size: 0\n")
    (work / "Declared.yaml").write_text("embedding_size: 4\nn_things: 2\nn_layers: 0\n")
    monkeypatch.syspath_prepend(str(work))
    with pytest.raises(ValueError, match=r"embedding_size=0 \(Plain\.yaml\)"):
        Config("user_settings:Plain", "ml-100k")
    assert Config("user_settings:Declared", "ml-100k")["n_layers"] == 0
    for value, message in ((1, "n_things must be an integer >= 2"), (3, "not 3")):
        with pytest.raises(ValueError, match=message):
            Config("user_settings:Declared", "ml-100k", overrides={"n_things": value})


@pytest.mark.parametrize("name", ["..:x", ".x:y", ":x", "x:", "a-b:C", "x:y.z"])
def test_names_that_are_no_model(name: str) -> None:
    with pytest.raises(ValueError, match="is given as package.module:Class"):
        Config(name, "ml-100k")


def test_a_module_that_fails_on_import(work: Path, monkeypatch: Any) -> None:
    (work / "broken_model.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(work))
    with pytest.raises(ValueError, match="fails on import: ZeroDivisionError"):
        Config("broken_model:Model", "ml-100k")


# -- a language model that is not there -------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "line", "message"),
    [
        ("HeLLM", {"llm_path": "/nowhere"}, "no such folder"),
        ("HeLLM", {"llm_path": "nowhere.gguf"}, "no such GGUF file"),
        ("GALRec", {"llm_path": "."}, "holds no config.json"),
        ("HeLLM", {"llm_path": ".", "llm_revision": "main"}, "needs a Hugging Face id"),
        ("HeLLM", {"prompt": "helm"}, "unknown prompt 'helm'. Did you mean 'hellm'?"),
        ("GALRec", {"prompts": "galrek"}, "unknown prompt 'galrek'. Did you mean 'galrec'?"),
    ],
)
def test_a_missing_language_model_is_found_before_the_stages(
    model: str, line: dict[str, Any], message: str, work: Path, tiny_llm: str
) -> None:
    config = Config(model, "ml-100k", command_line={"llm_path": tiny_llm, **line})
    with pytest.raises((ValueError, OSError), match=re.escape(message)):
        config.check_available()


def test_a_model_that_is_there(tiny_llm: str) -> None:
    Config("HeLLM", "ml-100k", command_line={"llm_path": tiny_llm}).check_available()
    Config("BPR", "ml-100k").check_available()


# -- the command ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model=LightGCN", "--n_layers=1.5"], "n_layers must be an integer >= 0"),
        (["--model=..:x"], "package.module:Class"),
        (["--model=HeLLM", "--llm_path=/nowhere"], "no such folder"),
        (["--model=LightGCN", "--torch_threads=100000000"], "in 1..1024, or none"),
        (["--model=LightGCN", f"--modalities={'{a: ' * 2000}1{'}' * 2000}"], "nested too deeply"),
    ],
    ids=["integer", "model", "llm_path", "threads", "nested"],
)
def test_the_command_ends_with_status_2_before_anything_is_written(
    options: list[str], message: str, cli: Any
) -> None:
    done = cli(*options, "--dataset=ml-100k")
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and message in line
    assert not any(cli.work.iterdir())
