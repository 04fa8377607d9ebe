"""``recbole_llm verify``: recomputes a run's metrics from its saved lists and the data."""

import argparse
from collections.abc import Sequence

from recbole_llm.cli.logs import log_warnings
from recbole_llm.cli.settings import refuse_settings

HELP = "recompute a run's metrics from its saved lists and the data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run, and the place of its data."""
    parser.description = "Recomputes a run's metrics from its saved lists and the data."
    parser.add_argument("run", help="a run's folder or record.json")
    parser.add_argument("--data_path", help="where the data is now, if it has moved")


def run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Verify a run; exit status 1 if a metric or the data differs."""
    refuse_settings(rest)
    log_warnings()
    from recbole_llm.runs.verify import verify_run

    report = verify_run(arguments.run, arguments.data_path)
    print(report.text)
    return 0 if report.agrees else 1
