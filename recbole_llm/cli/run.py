"""``recbole_llm run``, which is ``run_recbole``: trains a model and prints its metrics."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_llm.cli.settings import parse_settings
from recbole_llm.launcher import launched
from recbole_llm.version import __version__

HELP = "the same as run_recbole"

_USAGE = (
    'run_recbole --model=NAME --dataset=NAME [--config_files="A.yaml B.yaml"] [--KEY=VALUE ...]'
)
_DESCRIPTION = """\
Trains a model; prints its metrics on validation, which chose the epoch, and on test.
Settings: command line over config files over the shipped properties over RecBole's defaults."""
_SETTINGS = """\
settings:
  --model, -m NAME       a model of ours or of RecBole, or package.module:Class
  --dataset, -d NAME     a folder of atomic files under --data_path, or ml-100k
  --config_files FILES   YAML files, separated by spaces; the later win
  --protocol NAME        loo (leave-one-out by time) or random811 (8:1:1 a user)
  --split NAME           a split frozen by `recbole_llm split`, in place of --protocol
  --resume               resume the newest unfinished run of the same settings
  --save_topk=K          save every user's K best items, for `recbole_llm verify`
  --device=NAME          cpu, cuda, cuda:1 or mps; an error where it is not there
  --quiet, --verbose     the result and warnings alone; or settings and data on the console as well
  --KEY=VALUE            any setting of RecBole or of the model; --a.b=VALUE sets b inside a

examples:
  run_recbole --model=HeLLM --dataset=ml-100k --config_files=properties/quick.yaml
  run_recbole --model=LightGCN --dataset=baby --data_path=my/data --learning_rate=1e-3 --n_layers=3
  run_recbole --model=BPR --dataset=ml-100k --metrics=[Recall,MRR] --valid_metric=MRR@10
  run_recbole --model=my_package.my_module:MyModel --dataset=ml-100k
  run_recbole --model=HeLLM --dataset=sports --graph_stage.epochs=20 --resume
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is no setting of a run; all settings are ``--key=value``."""
    parser.usage, parser.description, parser.epilog = _USAGE, _DESCRIPTION, _SETTINGS
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--list-models", action="store_true", help="list the models and stop")
    parser.add_argument("--list-datasets", action="store_true", help="list the datasets and stop")
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    lines = parser.add_mutually_exclusive_group()
    lines.add_argument("--quiet", action="store_true", help="print warnings and the result alone")
    lines.add_argument("--verbose", action="store_true", help="print settings and data as well")
    parser.set_defaults(
        print_help=parser.print_help,
        interrupted="the same command with --resume continues the run",
    )


def run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Train and evaluate one model, or print a list; without any argument print the help."""
    if arguments.version:
        print(f"recbole-llm {__version__}")
        return 0
    if arguments.list_models:
        return _list_models()
    settings = parse_settings(rest)
    if arguments.list_datasets:
        return _list_datasets(settings)
    if not settings:
        arguments.print_help()
        return 0
    if arguments.quiet:
        settings |= {"state": "WARNING", "show_progress": False}
    elif arguments.verbose:
        settings["state"] = "DEBUG"
    from recbole_llm import quick_start
    from recbole_llm.runs.summary import run_summary

    record = quick_start.run(
        settings.pop("model", None),
        settings.pop("dataset", None),
        config_files=settings.pop("config_files", []),
        command_line=settings,
    )
    if launched().rank == 0:
        print(run_summary(record))
    return 0


def _list_models() -> int:
    from recbole_llm.registry import MODELS, recbole_models

    print("Ours:\n  " + "\n  ".join(sorted(MODELS)))
    print("RecBole's:\n  " + "\n  ".join(sorted(set(recbole_models()) - set(MODELS))))
    return 0


def _list_datasets(settings: Mapping[str, Any]) -> int:
    from recbole_llm.data.catalog import available_datasets

    for entry in available_datasets(settings.get("data_path", "dataset/")):
        print(f"{entry.name:<12} {'ready' if entry.has_files else 'no files'}  {entry.path}")
    return 0
