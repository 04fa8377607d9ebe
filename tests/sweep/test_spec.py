"""Specs: defaults, profiles, and errors that name the key."""

import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from recbole_llm.sweep.spec import Spec, load_spec

SPEC: dict[str, Any] = {
    "datasets": ["ml-100k"],
    "protocol": "loo",
    "models": ["BPR", "LightGCN"],
    "space": {"learning_rate": {"float": [1e-4, 1e-2], "log": True}},
    "search": {"sampler": "random", "n_trials": 4},
    "settings": {"epochs": 100},
    "profiles": {"small": {"settings": {"stopping_step": 2}, "search": {"n_trials": 2}}},
}


def load(tmp_path: Path, profile: str | None = None, **over: Any) -> Spec:
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in {**SPEC, **over}.items() if v is not None}))
    return load_spec(path, profile)


def test_a_spec_and_its_profile(tmp_path: Path) -> None:
    spec = load(tmp_path)
    assert spec.profile == "paper" and spec.profiles == ("paper", "small")
    assert [row.label for row in spec.rows] == ["BPR", "LightGCN"]
    assert spec.search is not None and spec.search.n_trials == 4
    assert spec.settings_of(spec.rows[0]) == {
        "protocol": "loo",
        "epochs": 100,
        "valid_metric": "Recall@20",
    }
    small = load(tmp_path, "small")
    assert small.search is not None
    assert (small.search.n_trials, small.search.sampler) == (2, "random")
    assert small.settings == {"epochs": 100, "stopping_step": 2}
    assert small.name == spec.name and small.measures_test


def test_the_row_goes_over_its_model_over_the_common_settings(tmp_path: Path) -> None:
    rows = [{"label": "x", "model": "BPR", "settings": {"c": 3}}, {"model": "LightGCN"}]
    spec = load(
        tmp_path,
        models=None,
        rows=rows,
        settings={"a": 1, "b": 1, "c": 1},
        model_settings={"BPR": {"b": 2, "c": 2}},
    )
    found = spec.settings_of(spec.rows[0], {"d": 4})
    assert [found[key] for key in "abcd"] == [1, 2, 3, 4]
    assert spec.settings_of(spec.rows[1])["b"] == 1


def test_figures_of_a_grid(tmp_path: Path) -> None:
    figure = {"kind": "line", "x": "n_layers", "symbol": "L", "metrics": ["recall@20"]}
    changes: dict[str, Any] = {"search": None, "space": None, "figures": [figure]}
    spec = load(tmp_path, grid=[{"n_layers": [1, 2]}, {"reg_weight": [0.1]}], **changes)
    assert spec.grid == ({"n_layers": 1}, {"n_layers": 2}, {"reg_weight": 0.1})
    assert spec.tables == () and not spec.measures_test, "a figure is drawn on validation"
    assert load(
        tmp_path, grid={"n_layers": [1]}, **{**changes, "figures": [{**figure, "part": "test"}]}
    ).measures_test


NO_SEARCH: dict[str, Any] = {"search": None, "space": None}
BOMB = "\n".join(["a0: &a0 [0, 0]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40))])
DATE = datetime.date(2020, 1, 1)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"serach": {}}, "unknown key 'serach'. Did you mean 'search'"),
        ({"datasets": "ml-100k"}, "datasets: expected a list, found 'ml-100k'"),
        ({"datasets": [3]}, r"datasets\[0\]: expected text, found 3"),
        ({"datasets": ["a", "a"]}, "datasets: each of them once"),
        ({"datasets": None}, "datasets: this key is required"),
        ({"seeds": [1, 1]}, "seeds: each of them once"),
        ({"seeds": ["a"]}, r"seeds\[0\]: expected an integer, found 'a'"),
        ({"seeds": []}, "seeds: expected at least 1 of them"),
        ({"models": None}, "rows: a spec has either `rows` or `models`"),
        ({"rows": [{"model": "BPR"}]}, "either `rows` or `models`"),
        ({"models": None, "rows": [{"label": "x"}]}, r"rows\[0\].model: this key is required"),
        ({"models": None, "rows": [{"model": "A"}, {"model": "A"}]}, "'A' is taken"),
        ({"models": None, "rows": [{"model": "A", "n_trials": 0}]}, r"rows\[0\].n_trials: .* >= 1"),
        (
            {"models": None, "rows": [{"model": "A", "group": "x"}]},
            r"unknown key 'rows\[0\].group'. The keys are: label, model",
        ),
        (
            {"models": None, "rows": [{"model": "A"}, {"model": "B", "settings": 3}]},
            r"rows\[1\].settings: expected `key: value` lines, found 3",
        ),
        (
            {"models": None, "rows": [{"model": "A", "settings": {"learning_rate": 1}}]},
            "'learning_rate' is both fixed and searched",
        ),
        ({"search": {"sampler": "cma"}}, "search.sampler: expected one of tpe, random, grid, qmc"),
        ({"search": {"pruner": "no"}}, "search.pruner: expected one of none, median, hyperband"),
        ({"search": {"n_trial": 3}}, "unknown key 'search.n_trial'"),
        ({"search": {"n_trials": 0}}, "search.n_trials: expected an integer >= 1"),
        ({"search": {"sampler": "tpe"}}, "search.n_trials: no budget for BPR"),
        ({"search": {"n_trials": 1, "timeout_s": 0}}, "search.timeout_s: expected a number > 0"),
        ({"search": None}, "space: there is no `search`"),
        ({"grid": {"n_layers": [1]}}, "grid: a spec has either a `search` or a `grid`"),
        ({"grid": {"n_layers": 1}}, "grid.n_layers: expected a list, found 1"),
        ({"grid": 3}, "grid: expected `key: .values.` lines, or a list of such, found 3"),
        ({"space": {"a": {"int": [2, 1]}}}, "space.a.int: expected"),
        ({"settings": [1]}, "settings: expected `key: value` lines"),
        ({"metric": 3}, "metric: expected text, found 3"),
        ({"compare": "HeLLM"}, "compare: 'HeLLM' is not the label of a row"),
        ({"tables": 5}, "tables: expected a list, found 5"),
        ({"tables": [{"kind": "x"}]}, r"tables\[0\].kind: expected one of metrics, cost"),
        ({"tables": [{"kind": ["x"]}]}, r"tables\[0\].kind: expected one of metrics, cost"),
        ({"tables": [{"titel": "x"}]}, r"'tables\[0\].titel'. Did you mean 'title'"),
        ({"figures": 7}, "figures: expected a list, found 7"),
        ({"figures": [7]}, r"figures\[0\]: expected `key: value` lines, found 7"),
        ({"figures": [{"kind": "pie"}]}, r"figures\[0\].kind: expected one of line, heatmap"),
        ({"figures": [{"kind": "bars", "log": True}]}, r"unknown key 'figures\[0\].log'"),
        ({"figures": [{"kind": "line"}]}, r"figures\[0\].x: this key is required"),
        (
            {"figures": [{"kind": "heatmap", "x": "a", "y": "b", "metrics": ["a", "b"]}]},
            r"figures\[0\].metrics: expected at most 1 of them",
        ),
        (
            {"figures": [{"kind": "line", "x": "a"}], "grid": {"a": [[1], [2]]}, **NO_SEARCH},
            r"figures\[0\].x: the values of grid.a are not plain",
        ),
        ({"figures": [{"kind": "line", "x": "a"}]}, r"figures\[0\].x: 'a' is not a key of `grid`"),
        ({"profiles": {"small": {"bad": 1}}}, "unknown key 'profiles.small.bad'"),
        ({"profiles": {"small": {}, "other": {"title": 1}}}, "profiles.other.title: expected text"),
        ({"profiles": {"small": {}, "paper": {}}}, "profiles.paper: this name means the spec"),
        ({"name": 3}, "name: expected text, found 3"),
        ({"settings": {"seed": 3}}, "settings.seed: a spec gives this by its key `seeds`"),
        ({"settings": {"config_files": 3}}, "settings.config_files: expected a list of files"),
        ({"settings": {"a": {3: 1}}}, "settings.a.3: expected text as the name of a key"),
        (
            {"settings": {"a": [DATE]}},
            r"settings.a\[0\]: expected text, .* datetime.date",
        ),
        ({"model_settings": {"BPR": 3}}, "model_settings.BPR: expected `key: value` lines"),
        ({"space": {3: [1]}}, "space.3: expected text as the name of a key"),
    ],
)
def test_errors_name_the_file_and_the_key(
    over: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        load(tmp_path, "small" if "profiles" in over else None, **over)
    text = str(raised.value)
    assert text.startswith(f"spec {tmp_path / 'table.yaml'}: ") and "\n" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", "expected `key: value` lines, found list"),
        ("3: 4", "keys are names, found 3"),
        ("? [a, b]\n: 3", "line 1: .*unhashable"),
        ("a: [1", "line 1"),
        ("a: &a [*a]", "line 1: an alias contains itself"),
        (BOMB, "aliases make more than 1000000 values"),
        ("settings: {a: !!set {b}}\ndatasets: [a]\nmodels: [b]", "settings.a: expected text"),
        ("settings: {a: !!binary aGk=}\ndatasets: [a]\nmodels: [b]", "settings.a: expected text"),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_odd_files_are_one_line_errors(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        load_spec(path)
    assert "odd.yaml" in str(raised.value) and "\n" not in str(raised.value)


def test_unknown_profile_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no profile 'tiny'; it has: paper, small"):
        load(tmp_path, "tiny")
    with pytest.raises(FileNotFoundError, match="spec none.yaml does not exist"):
        load_spec("none.yaml")
