"""Declarations accept what they say, and the YAML files say what is declared."""

import math
from pathlib import Path
from typing import Any

import pytest

from recbole_llm.config import Config
from recbole_llm.registry import MODELS, get_model_class
from recbole_llm.settings.group import Either, ListOf, MapOf, Nested, Optional, Settings
from recbole_llm.settings.run import OVERALL, settings_of_run
from recbole_llm.settings.values import Bool, Choice, Float, Int, Setting, Text
from recbole_llm.yaml_io import properties_dir, read_yaml


def place(name: str) -> str:
    return "command line"


# -- declarations -----------------------------------------------------------------------------

DECLARED = [
    (Int(), "int", "an integer", [-1, 0, 7], [True, 1.0, "1", None, math.nan, 2**31]),
    (Int(1), "int >= 1", "an integer >= 1", [1, 10**6], [0, -1, 1.5, 2**31]),
    (Int(1, 3), "int in 1..3", "an integer in 1..3", [1, 3], [0, 4]),
    (
        Int(0, 2**32 - 1),
        "int in 0..4294967295",
        "an integer in 0..4294967295",
        [2**32 - 1],
        [2**32],
    ),
    (
        Float(),
        "float",
        "a number",
        [0, -1.5, 1e38],
        [math.nan, math.inf, 1e300, True, "1", 10**400],
    ),
    (Float(0), "float >= 0", "a number >= 0", [0, 0.5], [-1e-9, -math.inf]),
    (Float(above=0), "float > 0", "a number > 0", [1e-9], [0, -1]),
    (Float(0, 1), "float in [0, 1]", "a number in [0, 1]", [0, 1], [-0.1, 1.1]),
    (Float(0, below=1), "float in [0, 1)", "a number in [0, 1)", [0], [1]),
    (Float(above=0, high=1), "float in (0, 1]", "a number in (0, 1]", [1], [0]),
    (Float(above=0, or_inf=True), "float > 0", "a number > 0", [math.inf], [math.nan, -math.inf]),
    (Bool(), "bool", "true or false", [True, False], [0, 1, "true", None]),
    (Choice("a", "b"), "a | b", "a or b", ["a"], ["A", "c", "", None, 1]),
    (Choice("a"), "a", "a", ["a"], ["b"]),
    (Choice("a", "b", "c", any_case=True), "a | b | c", "a, b or c", ["A", "c"], ["d"]),
    (Choice("a", "b", other="folder"), "a | b | folder", "a, b or a folder", ["x/y"], ["", 1]),
    (Text(), "str", "text", ["a"], ["", None, 1]),
    (ListOf(Text()), "list of str", "a list of texts", [["a"]], [[], "a", [1], None]),
    (ListOf(Int(1), or_one=True), "list of int >= 1", "a list of integers >= 1", [[1], 1], [[0]]),
    (
        ListOf(Float(0, below=1), size=2),
        "two floats in [0, 1)",
        "two numbers in [0, 1)",
        [[0, 0.5], (0.1, 0.9)],
        [[0], [0, 1], [0, 0, 0]],
    ),
    (
        MapOf(Float(0)),
        "dict of float >= 0",
        "a dict of numbers >= 0",
        [{}, {"a": 1}],
        [{"a": -1}, 3],
    ),
    (MapOf(), "dict", "a dict", [{}, {"a": "b"}], [[], None]),
    (Nested(a=Int(1)), "dict", "a dict with the keys a", [{}, {"a": 1}], [{"a": 0}, {"b": 1}, 5]),
    (Optional(Int(1)), "int >= 1, or ~", "an integer >= 1, or none", [None, 1], [0, "none"]),
    (Either(Text(), ListOf(Text())), "str, or list of str", "text, or a list of texts", ["a"], [1]),
]


@pytest.mark.parametrize(("setting", "text", "words", "right", "wrong"), DECLARED)
def test_a_declaration(
    setting: Setting, text: str, words: str, right: list[Any], wrong: list[Any]
) -> None:
    assert str(setting) == text and setting.words() == words
    for value in right:
        assert setting.accepts(value)
        setting.check("key", value, place)
    for value in wrong:
        assert not setting.accepts(value)
        with pytest.raises(ValueError, match=r"key.*\(command line\)") as error:
            setting.check("key", value, place)
        assert "\n" not in str(error.value)


def test_the_message() -> None:
    with pytest.raises(ValueError) as error:
        Settings(n_layers=Int(0)).check({"n_layers": 1.5}, place)
    assert str(error.value) == (
        "n_layers must be an integer >= 0, got n_layers=1.5 (command line)."
    )


def test_groups_are_merged_and_picked() -> None:
    both = Settings(a=Int(0), b=Bool()) | Settings(b=Text(), c=Text())
    assert list(both) == ["a", "b", "c"] and both["b"] == Text()
    assert list(both.pick("c", "a")) == ["c", "a"]


# -- the YAML files and the declarations ------------------------------------------------------


def documented(path: Path, declared: Settings) -> list[str]:
    """Compare each key's comment with its declaration; return the keys."""
    keys = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", " ")):
            key, comment = line.split(":")[0], line.partition("# ")[2]
            assert key in declared, f"{path.name}: {key} is not declared"
            expected = f"({declared[key]})"
            assert comment == expected or comment.startswith(f"{expected} "), f"{path.name}: {line}"
            keys.append(key)
    return keys


@pytest.mark.parametrize("model", [*sorted(MODELS), None], ids=str)
def test_the_yaml_says_what_is_declared(model: str | None) -> None:
    path, declared = properties_dir() / "overall.yaml", OVERALL
    if model is not None:
        path, declared = properties_dir() / f"model/{model}.yaml", get_model_class(model).settings
    keys, values = documented(path, declared), read_yaml(path)
    assert sorted(keys) == sorted(values) == sorted(declared)
    declared.check(values, place)


@pytest.mark.parametrize("model", ["BPR", "SASRec", "NGCF", "HGN", "NeuMF", "EASE", "CORE", "FM"])
def test_recboles_own_defaults_are_accepted(model: str) -> None:
    assert settings_of_run(get_model_class(model), Config(model, "ml-100k").internal_config_dict)
