"""The options of ``inspect``."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path


def inspect(argv: Sequence[str]) -> int:
    """Inspect a data set; exit status 0 if it can be read, whatever is found."""
    parser = argparse.ArgumentParser(
        prog="recbole_llm inspect",
        description="Statistics of a data set, its figure, and what in it could make numbers say "
        "more than they should. Any other --KEY=VALUE is a setting of the data, as in "
        "run_recbole (--data_path, --split, --config_files, ...).",
        allow_abbrev=False,
    )
    parser.add_argument("--dataset", "-d", required=True, help="name of the data set")
    parser.add_argument(
        "--protocol", help="of `recbole_llm split`, for what is judged by parts (a run's default)"
    )
    parser.add_argument("--output", help="folder to write (reports/inspect/<dataset>)")
    arguments, rest = parser.parse_known_args(argv)
    logging.basicConfig(level=logging.WARNING)
    from recbole_llm.cli import parse_settings
    from recbole_llm.inspection.page import inspect as write_page
    from recbole_llm.inspection.view import load_view

    view = load_view(arguments.dataset, arguments.protocol, parse_settings(rest))
    folder = Path(arguments.output or Path("reports") / "inspect" / arguments.dataset)
    print(write_page(view, folder))
    print(f"{folder}/inspect.md, inspect.json, inspect.pdf, inspect.png")
    return 0
