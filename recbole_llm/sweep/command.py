"""The ``sweep`` command's options."""

import argparse
import sys
from collections.abc import Sequence


def sweep(argv: Sequence[str]) -> int:
    """Run the command; exit status as ``run_recbole``, 1 when a model has no finished run."""
    parser = argparse.ArgumentParser(
        prog="recbole_llm sweep",
        description="Tunes and trains all that a spec names. The same command goes on with what is "
        "there, and on another machine that shares --storage it helps. Any other --KEY=VALUE is a "
        "setting of every run.",
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
    arguments, rest = parser.parse_known_args(argv)
    from recbole_llm.cli import parse_settings
    from recbole_llm.sweep import driver  # Optuna is imported by no other command

    options = vars(arguments) | {"overrides": parse_settings(rest)}
    try:
        print(driver.sweep(options.pop("spec"), **options))
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with the sweep", file=sys.stderr)
        return 130
    return 0
