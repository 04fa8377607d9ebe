"""``recbole_llm results``: writes the tables of a page from run records."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from recbole_llm.cli.settings import refuse_settings

HELP = "write the tables of a page from run records"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the file of rows."""
    parser.description = (
        "Writes the tables of a Markdown page, a row a model: mean and standard deviation over "
        "seeds, the seeds, and a link to each record. Runs that do not compare are refused."
    )
    parser.add_argument("rows", type=Path, help="YAML file of rows, e.g. reports/results.yaml")


def run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Write the tables and print the page."""
    refuse_settings(rest)
    from recbole_llm.report.results import write_results

    print(write_results(arguments.rows))
    return 0
