"""YAML files, values of the command line, settings and specs: read as they are, or one line."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzzing import FUZZ, FUZZ_TRAINING, changed, damaged, odd_values
from hypothesis import given
from hypothesis import strategies as st
from small_sweep import SPEC

from recbole_llm import quick_start
from recbole_llm.config import Config
from recbole_llm.sweep.settings import check_settings
from recbole_llm.sweep.spec import load_spec
from recbole_llm.yaml_io import parse_value, properties_dir, read_yaml

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SPECS = sorted(path for path in BENCHMARKS.glob("*/*.yaml") if path.parent.name != "published")
YAMLS = sorted([*properties_dir().rglob("*.yaml"), *SPECS])
#: What the console scripts turn into one line.
USER_ERRORS = (ValueError, OSError, ImportError, NotImplementedError)
#: Settings of long runs and large models; of places; and RecBole's for several processes.
LEFT_OUT = set(
    "epochs stopping_step train_batch_size eval_batch_size embedding_size n_layers data_path "
    "runs_dir checkpoint_dir cache_dir split_dir torch_threads n_iter nproc world_size ip port "
    "offset local_rank log_wandb llm_path model dataset config_files gpu_id use_gpu device".split()
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("yaml")


@FUZZ
@given(data=st.data(), path=st.sampled_from(YAMLS))
def test_damaged_yaml(folder, data, path):
    content = damaged(data, path.read_bytes())
    file = folder / "damaged.yaml"
    file.write_bytes(content)
    try:
        found = read_yaml(file)
    except ValueError as error:
        assert str(file) in str(error)
        return
    assert isinstance(found, dict) and all(isinstance(key, str) for key in found)


@FUZZ
@given(value=odd_values)
def test_yaml_values_arrive(folder, value):
    file = folder / "value.yaml"
    file.write_text(yaml.safe_dump({"key": value}, allow_unicode=True), encoding="utf-8")
    found = read_yaml(file)["key"]
    assert repr(found) == repr(value)


@FUZZ
@given(text=st.text(max_size=12) | odd_values.map(str))
def test_values_of_the_command_line(text):
    try:
        found = parse_value(text)
    except ValueError as error:
        assert str(error)
        return
    if isinstance(found, str) and found != text:
        assert text.strip()[:1] in "'\"rRuUbBfF([" or text.strip()[:1] == ""


@FUZZ
@given(data=st.data())
def test_a_changed_spec(folder, monkeypatch, data, small_ml100k):
    monkeypatch.chdir(folder)
    spec = {key: value for key, value in SPEC.items() if value is not None}
    content, _ = changed(data, spec)
    file = folder / "spec.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    try:
        spec = load_spec(file)
        check_settings(spec, {"data_path": str(small_ml100k)})
    except USER_ERRORS as error:
        assert str(error)


@FUZZ
@given(data=st.data(), path=st.sampled_from(SPECS))
def test_a_changed_shipped_spec(folder, data, path):
    content, _ = changed(data, yaml.safe_load(path.read_text()))
    file = folder / "spec.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    try:
        load_spec(file)
    except ValueError as error:
        assert str(file) in str(error)


def settings_of(model: str, data_path: Path) -> dict[str, Any]:
    config = Config(model, "ml-100k", overrides={"data_path": str(data_path)})
    return {key: value for key, value in config.to_dict().items() if key not in LEFT_OUT}


@FUZZ_TRAINING
@given(data=st.data(), model=st.sampled_from(["BPR", "LightGCN", "ItemKNN", "SASRec"]))
def test_a_changed_setting(folder, monkeypatch, data, model, small_ml100k):
    monkeypatch.chdir(folder)
    settings = settings_of(model, small_ml100k)
    key = data.draw(st.sampled_from(sorted(settings)), label="key")
    if isinstance(settings[key], dict) and settings[key] and data.draw(st.booleans()):
        value, _ = changed(data, settings[key])
    else:
        value = data.draw(odd_values, label="value")
    small = {"embedding_size": 4, "MAX_ITEM_LIST_LENGTH": 4, "n_heads": 1, "hidden_size": 4}
    small = {name: size for name, size in small.items() if name in settings}
    quiet = {"data_path": str(small_ml100k), "show_progress": False, "state": "WARNING"}
    given = {**quiet, "epochs": 1, "train_batch_size": 8192, **small, key: value}
    try:
        record = quick_start.run(model, "ml-100k", **given)
    except USER_ERRORS as error:
        assert str(error)
        return
    assert record.status == "finished"
