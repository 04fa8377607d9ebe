"""``recbole_llm verify``: recomputes a run's metrics from its saved lists and the data."""

import argparse
from collections.abc import Sequence

from recbole_llm.cli.logs import log_warnings
from recbole_llm.cli.settings import refuse_settings

HELP = "recompute a run's metrics from its saved lists and the data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run, and the place of its data."""
    parser.description = (
        "Recomputes a run's metrics from its saved lists and the data, and its hash and id from "
        "its settings. Exit status 1 when something differs. The output names what was not checked."
    )
    parser.add_argument(
        "run", help="a run's folder or record.json, or a published record with its lists next to it"
    )
    parser.add_argument("--data_path", help="where the data is now, if it has moved")
    parser.add_argument(
        "--from_checkpoint",
        action="store_true",
        help="rank again with the saved weights and compare the lists",
    )


def run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Verify a run; exit status 1 if a metric or the data differs."""
    refuse_settings(rest)
    log_warnings()
    from recbole_llm.runs.verify import verify_run

    report = verify_run(arguments.run, arguments.data_path, arguments.from_checkpoint)
    print(report.text)
    return 0 if report.agrees else 1
