"""``recbole_llm plot-embeddings``: draws how finished runs spread their users."""

import argparse
from collections.abc import Sequence

from recbole_llm.cli.settings import refuse_settings

HELP = "draw how finished runs spread their users (t-SNE, densities)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the runs, and what the figure depends on."""
    parser.description = "Draws how finished runs spread their users (t-SNE, densities)."
    parser.add_argument("runs", nargs="+", help="folders of finished runs, or record.json files")
    parser.add_argument("--output", default="reports/embeddings", help="folder for the figure")
    parser.add_argument("--n_users", type=int, default=500, help="users drawn at random")
    parser.add_argument("--seed", type=int, default=2020, help="seed of the draw and of t-SNE")
    parser.add_argument("--data_path", help="where the data is now, if it has moved")


def run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Draw the figure and print the names of its files."""
    refuse_settings(rest)
    from recbole_llm.report.embeddings import plot_embeddings

    files = plot_embeddings(
        arguments.runs,
        arguments.output,
        arguments.n_users,
        arguments.seed,
        arguments.data_path,
    )
    print("\n".join(map(str, files)))
    return 0
