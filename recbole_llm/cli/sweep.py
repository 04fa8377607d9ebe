"""``recbole_llm sweep``, which is ``run_sweep``: tunes and trains all that a spec names."""

import argparse
import sys
from collections.abc import Sequence

from recbole_llm.cli.settings import parse_settings

HELP = "tune and train all that a spec names; the same command on other machines helps"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the spec, and how its work is shared out."""
    parser.description = (
        "Tunes and trains all that a spec names. The same command resumes an unfinished sweep, and "
        "on another machine that shares --storage it helps. Any other --KEY=VALUE is a setting of "
        "every run."
    )
    parser.add_argument("spec", help="YAML file, e.g. benchmarks/hellm/fig4.yaml")
    parser.add_argument(
        "--profile", help="a profile of the spec, e.g. small; default: the spec as written"
    )
    parser.add_argument("--storage", help="sqlite:///FILE, postgresql://... or a journal file")
    parser.add_argument("--workers", type=int, default=1, help="processes on this machine")
    parser.add_argument(
        "--study-name", help="prefix of the studies' names; default: the spec's name"
    )
    parser.add_argument(
        "--heartbeat_s",
        type=int,
        default=30,
        help="seconds between signs of life; a worker counts as dead after twice as many",
    )
    parser.set_defaults(interrupted="the same command resumes the sweep")


def run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run the sweep and print its summary; exit status 1 if a row lacks final runs."""
    overrides = parse_settings(rest)
    from recbole_llm.sweep.driver import sweep_spec  # Optuna is imported by no other command

    try:
        summary = sweep_spec(
            arguments.spec,
            profile=arguments.profile,
            storage=arguments.storage,
            workers=arguments.workers,
            study_name=arguments.study_name,
            heartbeat_s=arguments.heartbeat_s,
            overrides=overrides,
        )
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(summary.text)
    return 0 if summary.complete else 1
