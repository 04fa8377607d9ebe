"""Options are the fields of a settings dataclass: names, types, defaults, help."""

import argparse
from dataclasses import MISSING, dataclass, fields

import pytest

from recbole_llm.cli.options import add_options, build_settings
from recbole_llm.features.settings import EncodeSettings
from recbole_llm.options import check_options, declared_options, option
from recbole_llm.profiles.settings import ReasonSettings


@dataclass(frozen=True)
class Toy:
    name: str = option(MISSING, "name of the toy")
    size: int | None = option(None, "size of the toy", group="shape", at_least=1)
    weight: float = option(0.5, "weight in kilograms", group="shape", above=0)
    colour: str = option("red", "colour of the toy", choices=("red", "green"))
    is_new: bool = option(False, "whether it is new")

    def __post_init__(self) -> None:
        check_options(self)


def parse(*words: str) -> Toy:
    parser = argparse.ArgumentParser()
    add_options(parser, Toy)
    return build_settings(parser.parse_args(words), Toy)


def test_defaults_are_those_of_the_dataclass() -> None:
    assert parse("--name=x") == Toy("x")


def test_values_have_the_types_of_the_fields() -> None:
    toy = parse("--name=7", "--size=7", "--weight=7", "--colour=green", "--is_new")
    assert toy == Toy("7", 7, 7.0, "green", True)
    assert type(toy.weight) is float


def test_help_shows_groups_choices_and_defaults() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, Toy)
    text = " ".join(parser.format_help().split())
    assert "--colour red|green colour of the toy (default: red)" in text
    assert "shape: --size INT size of the toy --weight FLOAT weight in kilograms" in text
    assert "(default: 0.5)" in text


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--size=0", "--size must be at least 1, got 0."),
        ("--weight=0", "--weight must be above 0, got 0.0."),
        ("--weight=nan", "--weight must be above 0, got nan."),
        ("--colour=gren", "--colour must be one of red, green, got 'gren'. Did you mean 'green'?"),
    ],
)
def test_values_are_checked_by_the_dataclass(word: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        parse("--name=x", word)
    assert str(error.value) == message


@pytest.mark.parametrize("settings", [EncodeSettings, ReasonSettings])
def test_options_of_encode_and_reason_are_the_fields_of_their_settings(settings: type) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_options(parser, settings)
    actions = {action.dest: action for action in parser._actions}
    assert list(declared_options(settings)) == [field.name for field in fields(settings)]
    assert set(actions) == {field.name for field in fields(settings)}
    for field in fields(settings):
        assert actions[field.name].option_strings == [f"--{field.name}"]
        assert actions[field.name].required == (field.default is MISSING)
        assert field.default is MISSING or actions[field.name].default == field.default
