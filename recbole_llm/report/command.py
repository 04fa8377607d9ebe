"""The ``report`` command's options."""

import argparse
from typing import Any


def add_report(commands: Any) -> None:
    """Add the command to ``recbole_llm``."""
    parser = commands.add_parser(
        "report",
        help="tables, figures and a page of a spec, from the records of its runs",
        allow_abbrev=False,
    )
    parser.add_argument("spec", help="YAML file that was swept")
    parser.add_argument("--profile", help="a profile of the spec; else the first with runs")
    parser.add_argument(
        "--runs", nargs="+", default=["runs", "reports/runs"], help="folders of run records"
    )
    parser.add_argument("--output", default="reports", help="parent of the report's folder")


def report(arguments: argparse.Namespace) -> int:
    """Run the command; exit status as ``run_recbole``."""
    from recbole_llm.report.build import report as write_report

    files = write_report(arguments.spec, arguments.profile, arguments.runs, arguments.output)
    print("\n".join(map(str, files)))
    return 0
