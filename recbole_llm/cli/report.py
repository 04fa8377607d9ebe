"""``recbole_llm report``: tables, figures and a page of a spec, from the records of its runs."""

import argparse
import sys
from collections.abc import Sequence

from recbole_llm.cli.settings import refuse_settings

HELP = "tables, figures and a page of a spec, from the records of its runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the spec, and the folders of records and reports."""
    parser.description = (
        "Writes tables, figures and a page of a spec, from the records of its runs."
    )
    parser.add_argument("spec", help="YAML file that was swept")
    parser.add_argument("--profile", help="a profile of the spec; default: the first with runs")
    parser.add_argument(
        "--runs", nargs="+", default=["runs", "reports/runs"], help="folders of run records"
    )
    parser.add_argument("--output", default="reports", help="parent of the report's folder")


def run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Write the report and print the names of its files; returns 1 if it has no run to show."""
    refuse_settings(rest)
    from recbole_llm.report.write import write_report

    report = write_report(arguments.spec, arguments.profile, arguments.runs, arguments.output)
    print("\n".join(map(str, report.files)))
    if report.n_runs == 0:
        folders = ", ".join(arguments.runs)
        print(f"no finished run of {arguments.spec} is in {folders}.", file=sys.stderr)
    return int(report.n_runs == 0)
