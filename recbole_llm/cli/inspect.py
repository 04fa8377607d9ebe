"""``recbole_llm inspect``: statistics of a dataset, and what in it could flatter a model."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from recbole_llm.cli.logs import log_warnings
from recbole_llm.cli.settings import parse_settings

HELP = "statistics of a dataset, and what in it could flatter a model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the dataset, its protocol and the folder to write."""
    parser.description = (
        "Statistics of a dataset, its figure, and what in it could make numbers say more than they "
        "should. Any other --KEY=VALUE is a setting of the data, as in run_recbole (--data_path, "
        "--split, --config_files, ...)."
    )
    parser.add_argument("--dataset", "-d", required=True, help="name of the dataset")
    parser.add_argument(
        "--protocol",
        help="a protocol of `recbole_llm split`, for what is judged by parts; default: a run's",
    )
    parser.add_argument("--output", help="folder to write; default: reports/inspect/<dataset>")


def run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Inspect a dataset; exit status 0 if it can be read, whatever is found."""
    log_warnings()
    from recbole_llm.inspection.view import load_view
    from recbole_llm.inspection.write import inspect_dataset

    view = load_view(arguments.dataset, arguments.protocol, parse_settings(rest))
    folder = Path(arguments.output or Path("reports") / "inspect" / arguments.dataset)
    print(inspect_dataset(view, folder))
    print(f"{folder}/inspect.md, inspect.json, inspect.pdf, inspect.png")
    return 0
