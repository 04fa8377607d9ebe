"""Search spaces: what is drawn, what a grid holds, and errors that name the key."""

from typing import Any

import optuna
import pytest
from search_space import parse_space

from recbole_llm.sweep.space import draw, extreme_points, grid_points, product

optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_each_kind_stays_in_its_range() -> None:
    space = parse_space(
        {
            "rate": {"float": [1e-4, 1e-2], "log": True},
            "tau": {"float": [0.1, 1.0], "step": 0.1},
            "layers": {"int": [1, 4]},
            "width": {"int": [16, 256], "log": True},
            "batch": {"int": [32, 128], "step": 32},
            "reg": [0, 1e-4, "auto", None],
        }
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(50):
        drawn = draw(space, study.ask())
        assert 1e-4 <= drawn["rate"] <= 1e-2 and 0.1 <= drawn["tau"] <= 1
        assert round(drawn["tau"] * 10, 6).is_integer()
        assert drawn["layers"] in range(1, 5) and drawn["batch"] in (32, 64, 96, 128)
        assert 16 <= drawn["width"] <= 256 and drawn["reg"] in (0, 1e-4, "auto", None)


CONDITIONAL = {
    "use_cl": [True, False],
    "tau": {"choice": [0.1, 0.5], "when": {"use_cl": True}},
    "anchors": {"int": [1, 2], "when": {"use_cl": True, "tau": [0.5, 0.9]}},
}


def test_conditions_switch_parameters_on() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    seen = set()
    for _ in range(60):
        drawn = draw(parse_space(CONDITIONAL), study.ask())
        assert ("tau" in drawn) == drawn["use_cl"]
        assert ("anchors" in drawn) == (drawn.get("tau") == 0.5)
        seen.add(tuple(drawn))
    assert len(seen) == 3


def test_grid_has_every_combination_once() -> None:
    assert grid_points(parse_space(CONDITIONAL)) == [
        {"use_cl": True, "tau": 0.1},
        {"use_cl": True, "tau": 0.5, "anchors": 1},
        {"use_cl": True, "tau": 0.5, "anchors": 2},
        {"use_cl": False},
    ]
    stepped = parse_space(
        {"a": {"float": [0.1, 0.4], "step": 0.1}, "n": {"int": [2, 6], "step": 2}}
    )
    assert [point["a"] for point in grid_points(stepped)][::3] == [0.1, 0.2, 0.3, 0.4]
    assert [point["n"] for point in grid_points(stepped)][:3] == [2, 4, 6]
    assert product({"a": [1, 2], "b": [3]}) == [{"a": 1, "b": 3}, {"a": 2, "b": 3}]


def test_extremes_are_points_of_the_space() -> None:
    space = parse_space({**CONDITIONAL, "rate": {"float": [0.1, 0.45], "step": 0.1}})
    first = {"use_cl": True, "tau": 0.1, "rate": 0.1}
    assert list(extreme_points(space)) == [
        ("use_cl", True, first),
        ("use_cl", False, {"use_cl": False, "rate": 0.1}),
        ("tau", 0.1, first),
        ("tau", 0.5, {"use_cl": True, "tau": 0.5, "anchors": 1, "rate": 0.1}),
        ("anchors", 1, {"use_cl": True, "tau": 0.5, "anchors": 1, "rate": 0.1}),
        ("anchors", 2, {"use_cl": True, "tau": 0.5, "anchors": 2, "rate": 0.1}),
        ("rate", 0.1, first),
        ("rate", 0.4, {**first, "rate": 0.4}),
    ]
    never = parse_space({"a": [1, 2], "b": {"int": [0, 1], "when": {"a": 3}}})
    with pytest.raises(ValueError, match="space.b.when: no value of a switches b on"):
        list(extreme_points(never))


def test_a_grid_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="space.x: a grid needs a list of values, or a step"):
        grid_points(parse_space({"x": {"float": [0, 1]}}))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, "space.x: expected a list of values, or a mapping"),
        ({"float": [0, 1], "int": [0, 1]}, "space.x: .*with exactly one of float, int, choice"),
        ({"log": True}, "space.x: .*with exactly one of float, int, choice"),
        ({"float": [1, 0]}, r"space.x.float: expected \[low, high\], two floats"),
        ({"float": [0]}, r"space.x.float: expected \[low, high\]"),
        ({"float": ["1e-3", 1]}, r"space.x.float: expected \[low, high\]"),
        ({"int": [1, 2.5]}, r"space.x.int: expected \[low, high\], two ints"),
        ({"int": [True, 2]}, r"space.x.int: expected \[low, high\]"),
        ({"float": [0, 1], "log": True}, "space.x: expected a log range that starts above 0"),
        ({"float": [1, 2], "log": 1}, "space.x.log: expected true or false"),
        (
            {"float": [1, 2], "log": True, "step": 0.1},
            "space.x.step: expected a range with step or with log",
        ),
        ({"int": [1, 2], "step": 0.5}, "space.x.step: expected an integer, found 0.5"),
        ({"int": [1, 2], "step": 0}, "space.x.step: expected an integer >= 1, found 0"),
        ({"float": [1, 2], "step": -1}, "space.x.step: expected a number > 0, found -1"),
        ({"choice": []}, "space.x.choice: expected at least 1 of them"),
        ([[1, 2]], r"space.x\[0\]: expected text, a number, true, false or null, found \[1, 2\]"),
        ({"choice": [{}]}, r"space.x.choice\[0\]: expected text, a number, true, false or null"),
        ({"choice": [1], "step": 1}, "unknown key 'space.x.step'. The keys are: when, choice"),
        ({"int": [1, 2], "stepp": 1}, "unknown key 'space.x.stepp'. Did you mean 'step'"),
        ({"int": [1, 2], "when": {"y": 1}}, "space.x.when: 'y' is not a parameter above it"),
        ({"int": [1, 2], "when": 3}, "space.x.when: expected `key: value` lines"),
    ],
)
def test_errors_name_the_key(entry: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_space({"x": entry})


def test_a_space_is_a_mapping() -> None:
    with pytest.raises(ValueError, match="space: expected `key: value` lines, found"):
        parse_space([1])
