"""Console scripts: ``run_recbole`` trains and evaluates, ``recbole_llm`` has the other commands."""

import argparse
import difflib
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from recbole_llm.version import __version__

if TYPE_CHECKING:
    from recbole_llm.record import RunRecord

_RUN_HELP = """\
usage: run_recbole --model=NAME --dataset=NAME [--config_files="A.yaml B.yaml"] [--KEY=VALUE ...]

Trains a model; prints its metrics on validation, which chose the epoch, and on test.
Settings: command line over config files over the shipped properties over RecBole's defaults.

examples:
  run_recbole --model=HeLLM --dataset=ml-100k --config_files=properties/quick.yaml
  run_recbole --model=LightGCN --dataset=baby --data_path=my/data --learning_rate=1e-3 --n_layers=3
  run_recbole --model=BPR --dataset=ml-100k --metrics=[Recall,MRR] --valid_metric=MRR@10
  run_recbole --model=my_package.my_module:MyModel --dataset=ml-100k
  run_recbole --model=HeLLM --dataset=sports --graph_stage.epochs=20 --resume

options:
  --model, -m NAME       a model of ours or of RecBole, or package.module:Class
  --dataset, -d NAME     a folder of atomic files under --data_path, or ml-100k
  --config_files FILES   YAML files, separated by spaces; the later win
  --protocol NAME        loo (leave-one-out by time) or random811 (8:1:1 a user)
  --split NAME           a split frozen by `recbole_llm split`, in place of --protocol
  --resume               go on with the newest unfinished run of the same settings
  --save_topk=K          save every user's K best items, for `recbole_llm verify`
  --list-models          list the models and stop
  --list-datasets        list the data sets and stop
  --version              print the version and stop
  --help, -h             print this and stop
  --KEY=VALUE            any setting of RecBole or of the model; --a.b=VALUE sets b inside a
"""

_SHORT = {"-m": "--model", "-d": "--dataset"}


def run_recbole(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 2 for a user's error, 130 if interrupted."""
    return _guarded(_run_command, list(sys.argv[1:] if argv is None else argv))


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``recbole_llm`` and its sub-commands; exit status as ``run_recbole``."""
    return _guarded(_tool_command, list(sys.argv[1:] if argv is None else argv))


def _guarded(command: Callable[[list[str]], int], argv: list[str]) -> int:
    """Run a command and turn what a user can mend into one message and exit status 2."""
    try:
        return command(argv)
    except KeyboardInterrupt:
        print("interrupted; the same command with --resume goes on", file=sys.stderr)
        return 130
    # NotImplementedError is RecBole's answer to a setting that it does not know.
    except (ValueError, OSError, ImportError, NotImplementedError) as error:
        if os.environ.get("RECBOLE_LLM_TRACEBACK"):
            traceback.print_exc()
        print(f"error: {str(error) or type(error).__name__}", file=sys.stderr)
        return 2


def _run_command(argv: list[str]) -> int:
    if not argv or {"--help", "-h"} & set(argv):
        print(_RUN_HELP, end="")
        return 0
    if "--version" in argv:
        print(f"recbole-llm {__version__}")
        return 0
    settings = parse_settings(argv)
    if settings.pop("list-models", False):
        return _list_models()
    if settings.pop("list-datasets", False):
        return _list_datasets(settings)
    files = settings.pop("config_files", None) or []
    files = files.split() if isinstance(files, str) else list(files)
    from recbole_llm.quick_start import run

    record = run(
        settings.pop("model", None),
        settings.pop("dataset", None),
        config_files=files,
        command_line=settings,
    )
    print(summary(record))
    return 0


def parse_settings(argv: Sequence[str]) -> dict[str, Any]:
    """Parse ``--key=value``, ``--key value`` and ``--flag`` (true) into settings.

    Raises:
        ValueError: an argument of another form, or a key given twice with different values.
    """
    from recbole_llm.yaml_io import parse_value

    settings: dict[str, Any] = {}
    rest = [_SHORT.get(word, word) for word in argv]
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            raise ValueError(f"unexpected argument {word!r}; settings have the form --key=value.")
        key, equals, text = word[2:].partition("=")
        if not equals and rest and not rest[0].startswith("--"):
            text = rest.pop(0)
        elif not equals:
            text = "true"
        value = text if key in ("model", "dataset", "config_files") else parse_value(text)
        if key in settings and settings[key] != value:
            raise ValueError(f"--{key} is given twice: {settings[key]!r} and {value!r}.")
        settings[key] = value
    return settings


def _list_models() -> int:
    from recbole_llm.registry import MODELS, recbole_models

    print("Ours:\n  " + "\n  ".join(sorted(MODELS)))
    print("RecBole's:\n  " + "\n  ".join(sorted(set(recbole_models()) - set(MODELS))))
    return 0


def _list_datasets(settings: dict[str, Any]) -> int:
    from recbole_llm.data.catalog import available_datasets

    for entry in available_datasets(settings.get("data_path", "dataset/")):
        print(f"{entry.name:<12} {'ready' if entry.has_files else 'no files'}  {entry.path}")
    return 0


def summary(record: "RunRecord") -> str:
    """Return a run's result line, the table of its stages, and where its record is."""
    from tabulate import tabulate

    lines = [f"{part:<5}  {_values(metrics)}" for part, metrics in record.metrics.items()]
    if record.protocol.startswith("cold_"):
        lines += [
            f"       test, {group.replace('_', ' ')} ({values['n_interactions']:,} interactions of "
            f"{values['n_users']:,} users): {_values(_without_counts(values))}"
            for group, values in record.metrics_cold.get("test", {}).items()
        ]
    lines += [
        f"       stage {stage.name} alone: test {_values(stage.metrics['test'])}"
        for stage in record.stages
        if "test" in stage.metrics
    ]
    split = f", split {record.config['split']}" if record.config.get("split") else ""
    title = f"{record.model} on {record.dataset} ({record.protocol}{split}, seed {record.seed})"
    if any(it["leaky"] for it in record.data.get("user_profiles", {}).values()):
        title += "  LEAKY: its user profiles were written from held-out interactions too"
    rows = [
        (
            stage.name,
            f"{stage.seconds:.1f}"
            + (f" (cached; {stage.cached_from_s:.1f})" if stage.cached_from_s is not None else ""),
            f"{stage.peak_bytes / 2**20:,.0f}",
            f"{stage.trainable:,} ({stage.trainable / stage.parameters:.2%})"
            if stage.parameters
            else "-",
        )
        for stage in record.stages
    ]
    table = tabulate(rows, headers=["stage", "seconds", "peak MiB", "trainable parameters"])
    return "\n".join(["", title, *lines, "", table, "", f"record: {record.folder}/record.json"])


def _without_counts(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("n_")}


def _values(metrics: dict[str, float]) -> str:
    """Return ``R@10 0.1234  N@10 0.0567``."""
    short = {"recall": "R", "ndcg": "N", "hit": "H"}
    parts = []
    for name, value in metrics.items():
        metric, at, k = name.partition("@")
        parts.append(f"{short.get(metric, metric)}{at}{k} {value:.4f}")
    return "  ".join(parts)


def run_sweep(argv: Sequence[str] | None = None) -> int:
    """Run ``recbole_llm sweep``; exit status as ``run_recbole``."""
    return main(["sweep", *(sys.argv[1:] if argv is None else argv)])


#: Sub-command: its line in the help, and the function that runs it, whose module is imported when
#: it is called: none waits for what another needs.
_COMMANDS = {
    "run": ("the same as run_recbole", "recbole_llm.cli:_run_command"),
    "prepare": (
        "build a dataset from its public source, or from files of your own",
        "recbole_llm.prepare.command:prepare",
    ),
    "encode": (
        "make feature files of the items' text or images",
        "recbole_llm.features.command:encode",
    ),
    "split": (
        "freeze a split into files with hashes, that runs and tables name",
        "recbole_llm.data.command:split",
    ),
    "inspect": (
        "statistics of a data set, and what in it could flatter a model",
        "recbole_llm.inspection.command:inspect",
    ),
    "verify": (
        "recompute a run's metrics from its saved lists and the data",
        "recbole_llm.cli:_verify",
    ),
    "reason": (
        "describe images and write preference profiles (MLLMRec)",
        "recbole_llm.profiles.command:reason",
    ),
    "audit": (
        "prove that profiles were written from training interactions only",
        "recbole_llm.profiles.command:audit",
    ),
    "sweep": (
        "tune and train all that a spec names; the same command on other machines helps",
        "recbole_llm.sweep.command:sweep",
    ),
    "report": (
        "tables, figures and a page of a spec, from the records of its runs",
        "recbole_llm.report.command:report",
    ),
    "plot-embeddings": (
        "draw how finished runs spread their users (t-SNE, densities)",
        "recbole_llm.report.command:plot_embeddings",
    ),
}


def _tool_command(argv: list[str]) -> int:
    name = argv[0] if argv else "--help"
    if name in ("--help", "-h"):
        print("usage: recbole_llm COMMAND ...\n\nTools around run_recbole.\n\ncommands:")
        for command, (text, _) in _COMMANDS.items():
            print(f"  {command:<16} {text}")
        print("\n`recbole_llm COMMAND --help` has the options of each.")
        return 0
    if name not in _COMMANDS:
        near = difflib.get_close_matches(name, _COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(_COMMANDS)}."
        raise ValueError(f"recbole_llm has no command {name!r}; {hint}")
    module, _, function = _COMMANDS[name][1].partition(":")
    return int(getattr(importlib.import_module(module), function)(argv[1:]))


def _verify(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="recbole_llm verify",
        description="Recomputes a run's metrics from its saved lists and the data.",
        allow_abbrev=False,
    )
    parser.add_argument("run", help="a run's folder or record.json")
    parser.add_argument("--data_path", help="where the data is now, if it has moved")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING)
    from recbole_llm.runs.verify import verify

    report = verify(arguments.run, arguments.data_path)
    print(report.text)
    return 0 if report.agrees else 1
