"""The options of ``report`` and ``plot-embeddings``."""

import argparse
from collections.abc import Sequence


def report(argv: Sequence[str]) -> int:
    """Write a spec's tables, figures and page; exit status as ``run_recbole``."""
    parser = argparse.ArgumentParser(
        prog="recbole_llm report",
        description="Writes tables, figures and a page of a spec, from the records of its runs.",
        allow_abbrev=False,
    )
    parser.add_argument("spec", help="YAML file that was swept")
    parser.add_argument("--profile", help="a profile of the spec; else the first with runs")
    parser.add_argument(
        "--runs", nargs="+", default=["runs", "reports/runs"], help="folders of run records"
    )
    parser.add_argument("--output", default="reports", help="parent of the report's folder")
    arguments = parser.parse_args(argv)
    from recbole_llm.report.build import report as write_report

    files = write_report(arguments.spec, arguments.profile, arguments.runs, arguments.output)
    print("\n".join(map(str, files)))
    return 0


def plot_embeddings(argv: Sequence[str]) -> int:
    """Draw how finished runs spread their users; exit status as ``run_recbole``."""
    parser = argparse.ArgumentParser(
        prog="recbole_llm plot-embeddings",
        description="Draws how finished runs spread their users (t-SNE, densities).",
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="+", help="folders of finished runs, or record.json files")
    parser.add_argument("--output", default="reports/embeddings", help="folder for the figure")
    parser.add_argument("--n_users", type=int, default=500, help="users drawn at random")
    parser.add_argument("--seed", type=int, default=2020, help="of the draw and of t-SNE")
    parser.add_argument("--data_path", help="where the data is now, if it has moved")
    arguments = parser.parse_args(argv)
    from recbole_llm.report.embeddings import plot_embeddings as plot

    files = plot(
        arguments.runs,
        arguments.output,
        arguments.n_users,
        arguments.seed,
        arguments.data_path,
    )
    print("\n".join(map(str, files)))
    return 0
