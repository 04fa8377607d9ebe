"""Settings on the command line: ``--key=value`` and its other forms."""

from typing import Any

import pytest

from recbole_llm.cli.main import run_recbole
from recbole_llm.cli.settings import parse_data_settings, parse_settings, refuse_settings


@pytest.mark.parametrize(
    ("line", "settings"),
    [
        ("--epochs=3", {"epochs": 3}),
        ("--epochs 3", {"epochs": 3}),
        ("--resume", {"resume": True}),
        ("--resume --epochs=3", {"resume": True, "epochs": 3}),
        ("--resume=false", {"resume": False}),
        ("-m BPR -d ml-100k", {"model": "BPR", "dataset": "ml-100k"}),
        ("--model=BPR --dataset 2020", {"model": "BPR", "dataset": "2020"}),
        ("--graph_stage.epochs=5", {"graph_stage.epochs": 5}),
        ("--load_col={'inter':['a=b']}", {"load_col": {"inter": ["a=b"]}}),
        ("--seed=1 --seed=1", {"seed": 1}),
        ("--min_rating -1", {"min_rating": -1}),
        ("", {}),
    ],
)
def test_settings(line: str, settings: dict[str, Any]) -> None:
    assert parse_settings(line.split()) == settings


def test_config_files_are_one_argument_with_spaces() -> None:
    assert parse_settings(["--config_files=a.yaml b.yaml"]) == {
        "config_files": ["a.yaml", "b.yaml"]
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--epochs=1 --epochs=2", "--epochs is given twice: 1 and 2"),
        ("-m BPR --model=SASRec", "--model is given twice: 'BPR' and 'SASRec'"),
        ("BPR", "unexpected argument 'BPR'; settings have the form --key=value"),
        ("--epochs=1 2", "unexpected argument '2'"),
        ("-x 3", "unexpected argument '-x'"),
        ("--", "unexpected argument '--'"),
    ],
)
def test_malformed_lines(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=message):
        parse_settings(line.split())
    assert run_recbole(line.split()) == 2
    assert message in capsys.readouterr().err


def test_a_command_with_a_model_of_its_own_takes_no_recommender() -> None:
    assert parse_data_settings(["--seed=1"], "--encoder") == {"seed": 1}
    with pytest.raises(ValueError, match="--model is not taken here.* own model is --encoder"):
        parse_data_settings(["--model=BPR"], "--encoder")


def test_a_command_without_settings_names_the_first_other_word() -> None:
    refuse_settings([])
    with pytest.raises(ValueError, match="unexpected argument '--data=y'"):
        refuse_settings(["--data=y", "z"])
