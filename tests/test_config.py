"""Where a setting comes from, what is refused, and what makes two runs the same run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recbole.config import Config as RecBoleConfig

from recbole_llm.config import Config
from recbole_llm.registry import MODELS
from recbole_llm.settings.fingerprint import VOLATILE_KEYS
from recbole_llm.yaml_io import find_config_file, parse_value, properties_dir, read_yaml

Write = Callable[[str, str], Path]


@pytest.fixture
def writer(work: Path) -> Write:
    def call(name: str, text: str) -> Path:
        (work / name).write_text(text, encoding="utf-8")
        return work / name

    return call


def config(
    model: str = "LightGCN",
    dataset: str = "ml-100k",
    files: tuple = (),
    line: dict[str, Any] | None = None,
    **overrides: Any,
) -> Config:
    return Config(model, dataset, files, overrides, line)


# -- priority ---------------------------------------------------------------------------------


def test_command_line_over_dict_over_files_over_properties_over_recbole(writer: Write) -> None:
    first = writer("first.yaml", "n_layers: 5\nreg_weight: 5\nembedding_size: 5\nepochs: 5\n")
    second = writer("second.yaml", "n_layers: 6\nreg_weight: 6\nembedding_size: 6\n")
    found = config(files=(first, second), line={"n_layers": 8}, n_layers=7, reg_weight=7)
    assert found["n_layers"] == 8  # command line
    assert found["reg_weight"] == 7  # dict
    assert found["embedding_size"] == 6  # the later file
    assert found["epochs"] == 5  # the earlier file
    assert (
        found["learning_rate"]
        == read_yaml(properties_dir() / "model/LightGCN.yaml")["learning_rate"]
    )
    assert found["valid_metric"] == "Recall@20" and found["stopping_step"] == 20  # overall.yaml
    assert found["USER_ID_FIELD"] == "user_id"  # RecBole's own


def test_our_properties_go_over_recboles_for_recboles_models_too() -> None:
    found = config("BPR")
    assert found["topk"] == [10, 20]
    assert found["embedding_size"] == 64  # RecBole's BPR.yaml


def test_model_and_dataset_may_come_from_a_file(writer: Write) -> None:
    path = writer("run.yaml", "model: BPR\ndataset: ml-100k\n")
    found = Config(config_files=[path])
    assert (found["model"], found["dataset"]) == ("BPR", "ml-100k")


@pytest.mark.parametrize(
    ("model", "dataset", "name"), [(None, "x", "model"), ("BPR", "", "dataset")]
)
def test_no_model_or_dataset(model: str | None, dataset: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"no {name} given. Add --{name}=NAME"):
        Config(model, dataset)


# -- dotted keys ------------------------------------------------------------------------------


def test_dotted_keys_set_one_value_inside(writer: Write) -> None:
    path = writer("a.yaml", "graph_stage: {epochs: 1, knn_k: 3}\nsequence_stage.epochs: 2\n")
    found = config("HeLLM", files=(path,), line={"graph_stage.epochs": 5})
    assert found["graph_stage"] == {"epochs": 5, "knn_k": 3}
    assert found["sequence_stage"] == {"epochs": 2}


def test_dotted_keys_keep_the_rest_of_a_default() -> None:
    line = {"modalities.text.encoder": "another", "train_neg_sample_args.sample_num": 3}
    found = config(line=line)
    shipped = read_yaml(properties_dir() / "dataset/ml-100k.yaml")["modalities"]
    assert found["modalities"]["text"] == {**shipped["text"], "encoder": "another"}
    assert found["modalities"]["genre"] == shipped["genre"]
    assert found["train_neg_sample_args"]["sample_num"] == 3
    assert found["train_neg_sample_args"]["distribution"] == "uniform"


def test_a_dotted_leaf_is_replaced_whole() -> None:
    found = config(line={"eval_args.split": {"LS": "valid_and_test"}, "eval_args.order": "TO"})
    assert found["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert found["eval_args"]["order"] == "TO" and found["eval_args"]["group_by"] == "user"
    assert found["protocol"] == "loo"


def test_a_later_whole_value_replaces_earlier_dots(writer: Write) -> None:
    path = writer("a.yaml", "graph_stage.epochs: 1\n")
    assert config("HeLLM", files=(path,), graph_stage={"knn_k": 2})["graph_stage"] == {"knn_k": 2}


# -- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-2.5", -2.5),
        ("1e-3", 1e-3),
        ("[1, 2]", [1, 2]),
        ("[0.8,0.1,0.1]", [0.8, 0.1, 0.1]),
        ("{'max_norm': 1.0}", {"max_norm": 1.0}),
        ("{LS: valid_and_test}", {"LS": "valid_and_test"}),
        ("[text]", ["text"]),
        ("[Recall,MRR]", ["Recall", "MRR"]),
        ("['a b', \"c\"]", ["a b", "c"]),
        ("[1e-3, 1.0e-4]", [1e-3, 1e-4]),
        ("true", True),
        ("False", False),
        ("none", None),
        ("Null", None),
        ("~", None),
        ("'none'", "none"),
        ("text", "text"),
        ("", ""),
        ("a.b/c-d", "a.b/c-d"),
        ("[3,inf)", "[3,inf)"),
        ("(0,5]", "(0,5]"),
        ("__import__('os').system('touch planted')", "__import__('os').system('touch planted')"),
        ("[__import__('os')]", ["__import__('os')"]),
        ("1+1", "1+1"),
        ("open('planted','w')", "open('planted','w')"),
        ("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf"),
        ("{", "{"),
        ("(" * 500, "(" * 500),
    ],
)
def test_command_line_values(text: str, value: object, work: Path) -> None:
    found = parse_value(text)
    assert found == value and type(found) is type(value)
    assert not (work / "planted").exists()


def test_python_tags_in_yaml_are_refused(writer: Write, work: Path) -> None:
    path = writer("evil.yaml", "epochs: !!python/object/apply:os.system ['touch planted']\n")
    with pytest.raises(ValueError, match=r"evil\.yaml is not valid YAML"):
        config(files=(path,))
    assert not (work / "planted").exists()


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.0e-3", "0.001", ".001"])
def test_yaml_numbers(writer: Write, text: str) -> None:
    value = read_yaml(writer("a.yaml", f"learning_rate: {text}\n"))["learning_rate"]
    assert value == 1e-3 and isinstance(value, float)


@pytest.mark.parametrize("text", ["v1e", "1e", "e5", "1.2.3", "'1e-3'", "1-2"])
def test_yaml_text_stays_text(writer: Write, text: str) -> None:
    assert isinstance(read_yaml(writer("a.yaml", f"name: {text}\n"))["name"], str)


# -- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"n_layer": 2}, r"unknown key 'n_layer' \(command line\) .*Did you mean 'n_layers'\?"),
        ({"graph_stage.x": 1}, r"unknown key 'graph_stage' \(command line\)"),
        ({"metrics": ["Recal"]}, r"unknown metric 'Recal' .*Did you mean 'recall'\?"),
        ({"metrics": 5}, r"metrics must be a list of texts, got metrics=\[5\] \(command line\)"),
        ({"valid_metric": "MRR@10"}, r"valid_metric 'MRR@10' is not measured"),
        ({"valid_metric": "Recall@5"}, r"valid_metric 'Recall@5' is not measured"),
        ({"valid_metric": "Recall@x"}, r"valid_metric 'Recall@x' is not measured"),
        ({"metrics": ["AUC"], "valid_metric": "AUC"}, r"AUC cannot be measured on a ranking"),
        ({"topk": "abc"}, r"topk must be a list of integers >= 1, got topk=\['abc'\]"),
        ({"topk": [0]}, r"topk must be a list of integers >= 1, got topk=\[0\]"),
        ({"topk": 1.5}, r"topk must be a list of integers >= 1, got topk=\[1\.5\]"),
        ({"protocol": "lo"}, r"unknown protocol 'lo' .*Did you mean 'loo'\?"),
        ({"protocol": "loo", "eval_args": {}}, r"protocol and eval_args are both given"),
        ({"modalities": ["txt"]}, r"modality 'txt' .*text, genre.* Did you mean 'text'\?"),
        ({"modalities": "txt"}, r"modality 'txt' \(command line\) is not one of"),
        ({"epochs": -1}, r"epochs must be an integer >= 0, got epochs=-1"),
        ({"epochs": 1.5}, r"epochs must be an integer >= 0"),
        ({"epochs": True}, r"epochs must be an integer >= 0, got epochs=True"),
        ({"train_batch_size": 0}, r"train_batch_size must be an integer >= 1"),
        ({"eval_users": 0}, r"eval_users must be an integer >= 1"),
        ({"seed": 1.5}, r"seed must be an integer in 0\.\.4294967295, got seed=1\.5"),
        ({"gradient_accumulation_steps": 0}, r"gradient_accumulation_steps must be an integer"),
        ({"learning_rate": 0}, r"learning_rate must be a number in \(0, 100\]"),
        ({"learning_rate": float("nan")}, r"learning_rate must be a number in \(0, 100\]"),
        ({"learning_rate": "fast"}, r"a number in \(0, 100\], got learning_rate='fast'"),
        ({"n_layers": "two"}, r"n_layers must be an integer >= 0, got n_layers='two' \(command"),
        ({"mask_history": "maybe"}, r"true or false, got mask_history='maybe'"),
        ({"learner": "adm"}, r"learner must be adam, .*learner='adm' .*Did you mean 'adam'\?"),
        ({"torch_threads": "all"}, r"in 1\.\.1024, or none, got torch_threads='all'"),
        ({"user_inter_num_interval": "5"}, r"user_inter_num_interval must be intervals such as"),
        ({"cache_dir": None}, r"cache_dir must be a folder, got none"),
    ],
)
def test_refused_settings(line: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(line=line)


def test_origin_of_a_wrong_value_is_named(writer: Write) -> None:
    with pytest.raises(ValueError, match=r"'n_layer' \(config dict\)"):
        config(n_layer=2)
    with pytest.raises(ValueError, match=r"'n_layer' \(config file\)"):
        config(files=(writer("a.yaml", "n_layer: 2\n"),))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("LigtGCN", r"unknown model 'LigtGCN'\. Did you mean 'LightGCN'\? Ours: AlphaRec, BM3,"),
        ("sasrec", r"unknown model 'sasrec'\. Did you mean 'SASRec'\?"),
        ("no_such_module:Model", r"cannot import module 'no_such_module'.*PYTHONPATH"),
        ("collections:Countr", r"module 'collections' has no class 'Countr'\. Did you mean"),
        ("datetime:date", r"date is not a recommender"),
    ],
)
def test_refused_models(model: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(model)


def test_protocols_set_the_split() -> None:
    assert config(protocol="loo")["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert config(protocol="loo")["eval_args"]["order"] == "TO"
    assert config(protocol="random811")["eval_args"]["split"] == {"RS": [0.8, 0.1, 0.1]}
    assert config("SASRec")["protocol"] == "loo"  # a sequential model's default
    assert config("BPR")["protocol"] == "random811"
    assert config("HeLLMPretrain")["protocol"] == "loo"  # its YAML


def test_eval_args_are_recognised_or_custom() -> None:
    loo = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
    assert config(eval_args=loo)["protocol"] == "loo"
    assert config(eval_args={**loo, "order": "RO"})["protocol"] == "custom"


def test_fixed_split_and_protocol_conflict() -> None:
    assert config(dataset="baby")["protocol"] == "fixed"
    with pytest.raises(ValueError, match="fixed split .*cannot re-split. Leave out --protocol"):
        config(dataset="baby", protocol="loo")


def test_modalities_are_chosen_by_name() -> None:
    assert list(config()["modalities"]) == ["text", "genre"]
    assert list(config(modalities=["genre"])["modalities"]) == ["genre"]
    assert config(modalities="genre")["modalities"] == {"genre": {"multi_hot": "class"}}
    assert config(modalities={"mine": "mine.npy"})["modalities"] == {"mine": "mine.npy"}


# -- files ------------------------------------------------------------------------------------


def test_missing_config_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"'nowhere\.yaml' does not exist, neither from"):
        config(files=("nowhere.yaml",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: [1\n", r"bad\.yaml is not valid YAML"),
        ("- epochs\n- 3\n", r"bad\.yaml: expected `key: value` lines, found list"),
        ("just text\n", r"bad\.yaml: expected `key: value` lines, found str"),
        ("1: 2\n", r"bad\.yaml: keys are names, found 1 \(int\)"),
    ],
)
def test_malformed_config_file(writer: Write, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(files=(writer("bad.yaml", text),))


def test_binary_config_file(work: Path) -> None:
    (work / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"bad\.yaml"):
        config(files=("bad.yaml",))


def test_empty_config_file(writer: Write) -> None:
    assert config(files=(writer("empty.yaml", "# nothing\n"),))["n_layers"] == config()["n_layers"]


def test_shipped_config_file_is_found_from_anywhere(work: Path) -> None:
    assert find_config_file("properties/quick.yaml") == properties_dir() / "quick.yaml"
    (work / "properties").mkdir()
    (work / "properties" / "quick.yaml").write_text("epochs: 1\n")
    assert find_config_file("properties/quick.yaml") == Path("properties/quick.yaml")


@pytest.mark.parametrize("model", sorted(MODELS))
def test_shipped_model_yaml(model: str) -> None:
    assert config(model)["model"] == model


@pytest.mark.parametrize(
    "dataset", sorted(path.stem for path in (properties_dir() / "dataset").glob("*.yaml"))
)
def test_shipped_dataset_yaml(dataset: str) -> None:
    assert config(dataset=dataset)["load_col"]["inter"][:2] == ["user_id", "item_id"]


def test_shipped_quick_yaml() -> None:
    found = config("HeLLM", files=("properties/quick.yaml",))
    for key, value in read_yaml(properties_dir() / "quick.yaml").items():
        assert found[key] == value


def test_own_ml100k_goes_before_recboles(small_ml100k: Path) -> None:
    own = config(data_path=str(small_ml100k))
    assert Path(own["data_path"]) == small_ml100k / "ml-100k"
    assert "dataset_example" in config(data_path="elsewhere/")["data_path"]


def test_user_model_brings_its_yaml_and_its_keys(
    work: Path, monkeypatch: pytest.MonkeyPatch, writer: Write
) -> None:
    writer(
        "user_made.py",
        "from recbole.model.general_recommender.bpr import BPR\nclass Mine(BPR): pass\n",
    )
    writer("Mine.yaml", "embedding_size: 12\nmy_weight: 1e-3\n")
    monkeypatch.syspath_prepend(str(work))
    found = config("user_made:Mine", line={"my_weight": 0.5})
    assert (found["model"], found["embedding_size"], found["my_weight"]) == ("Mine", 12, 0.5)
    path = writer("more.yaml", "another_key: 1\n")
    assert config("user_made:Mine", files=(path,))["another_key"] == 1
    with pytest.raises(ValueError, match="unknown key 'another_key'"):
        config(files=(path,))
    with pytest.raises(ValueError, match="unknown key 'my_wieght'.*Did you mean 'my_weight'"):
        config("user_made:Mine", line={"my_wieght": 0.5})


# -- fingerprint ------------------------------------------------------------------------------


def test_equal_settings_have_equal_fingerprints(writer: Write) -> None:
    path = writer("a.yaml", "n_layers: 3\n")
    one, two = config(files=(path,)), config(line={"n_layers": 3})
    assert one.fingerprint() == two.fingerprint() == config(n_layers=3).fingerprint()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_layers", 3),
        ("seed", 1),
        ("protocol", "loo"),
        ("modalities", ["genre"]),
        ("topk", [10, 20, 50]),
        ("mask_history", False),
        ("user_inter_num_interval", "[5,inf)"),
        ("valid_metric", "NDCG@10"),
    ],
)
def test_fingerprint_changes_with_a_setting(key: str, value: object) -> None:
    assert config().fingerprint() != config(line={key: value}).fingerprint()


def test_fingerprint_differs_between_models_and_datasets() -> None:
    prints = [config(), config("BPR"), config(dataset="sports"), config("SASRecCausal")]
    assert len({found.fingerprint() for found in prints}) == 4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("resume", True),
        ("checkpoint_s", 0),
        ("checkpoint_dir", "elsewhere"),
        ("runs_dir", "elsewhere"),
        ("cache_dir", "elsewhere"),
        ("data_path", "elsewhere"),
        ("show_progress", False),
        ("save_topk", 50),
        ("torch_threads", 2),
        ("state", "ERROR"),
    ],
)
def test_fingerprint_ignores_places_and_manners(key: str, value: object) -> None:
    assert key in VOLATILE_KEYS
    assert config().fingerprint() == config(line={key: value}).fingerprint()


def test_settings_are_plain_json_and_can_be_read_back() -> None:
    settings = config("HeLLM", line={"graph_stage.epochs": 2}).to_dict()
    assert settings["graph_stage"] == {"epochs": 2}
    assert settings["MODEL_TYPE"] == "ModelType.GENERAL"
    assert settings == config("HeLLM", graph_stage={"epochs": 2}).to_dict()


def test_it_is_recboles_config() -> None:
    assert isinstance(config(), RecBoleConfig)


SHIPPED = sorted((properties_dir() / "model").glob("*/*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_settings_of_a_model_on_a_dataset_change_what_it_reads(path: Path) -> None:
    general = read_yaml(properties_dir() / "overall.yaml")
    general |= read_yaml(path.parent.with_suffix(".yaml"))
    special = read_yaml(path)
    assert special
    for key, value in special.items():
        assert key in general
        assert general[key] != value, f"{key} is the model's default already"
    found = config(path.parent.name, path.stem)
    assert {key: found[key] for key in special} == special


def test_settings_of_a_model_on_a_dataset_give_way_to_the_user_s() -> None:
    assert config("SRGFormer", "sports")["global_weight"] == 0.6
    assert config("SRGFormer", "baby")["global_weight"] == 0.1
    found = config("SRGFormer", "sports", global_weight=0.5)
    assert (found["global_weight"], found["local_weight"]) == (0.5, 0.4)
