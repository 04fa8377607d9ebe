"""The ``sweep`` command's options."""

import argparse
import sys
from typing import Any


def add_sweep(commands: Any) -> None:
    """Add the command to ``recbole_llm``."""
    parser = commands.add_parser(
        "sweep",
        help="tune and train all that a spec names; the same command on other machines helps",
        allow_abbrev=False,
    )
    parser.add_argument("spec", help="YAML file, e.g. benchmarks/hellm/fig4.yaml")
    parser.add_argument("--profile", help="a profile of the spec, e.g. small; else as it stands")
    parser.add_argument("--storage", help="sqlite:///FILE, postgresql://... or a journal file")
    parser.add_argument("--workers", type=int, default=1, help="processes on this machine")
    parser.add_argument("--study-name", help="prefix of the studies' names; else the spec's")
    parser.add_argument(
        "--heartbeat_s", type=int, default=30, help="a silent worker is dead after twice as long"
    )


def sweep(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Run the command; exit status as ``run_recbole``."""
    from recbole_llm.sweep import driver  # Optuna is imported by no other command

    options = vars(arguments) | {"overrides": overrides}
    del options["command"]
    try:
        print(driver.sweep(options.pop("spec"), **options))
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with the sweep", file=sys.stderr)
        return 130
    return 0
