"""``recbole_llm recommend``: the best items of a finished run, for users or for histories."""

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_llm.cli.logs import log_warnings
from recbole_llm.cli.settings import refuse_settings

if TYPE_CHECKING:
    import pandas as pd

HELP = "the best items of a finished run, for its users or for a new user's history"

_FORMATS = ("table", "csv", "jsonl", "parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run, the users and the form of the output."""
    parser.description = (
        "Prints the best items of users of the data, or of a new user by a history of items. By "
        "default the lists of tested users equal the run's own: items of the training and "
        "validation part are left out."
    )
    parser.add_argument("run", help="a finished run's folder")
    users = parser.add_mutually_exclusive_group(required=True)
    users.add_argument("--users", help="user ids, separated by commas")
    users.add_argument("--users_file", type=Path, help="a file with one user id a line")
    users.add_argument("--all", action="store_true", help="every user of the data")
    users.add_argument(
        "--history",
        action="append",
        metavar="ITEMS",
        help="item ids of a new user, oldest first, separated by commas; may be repeated",
    )
    parser.add_argument("--k", type=int, default=10, help="items a user (10)")
    parser.add_argument(
        "--hide",
        default="known",
        help="left out: known (training and validation items, or the history), all (the test "
        "items too), none",
    )
    parser.add_argument("--format", choices=_FORMATS, default="table", help="form of the output")
    parser.add_argument("--output", type=Path, help="file to write; default: the terminal")
    parser.add_argument("--data_path", help="where the data is now, if it has moved")


def run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Rank, and print or write the lists.

    Raises:
        ValueError: an id is unknown, a file cannot be read as one id a line, or Parquet has no
            file to go to.
    """
    refuse_settings(rest)
    if arguments.format == "parquet":
        _check_parquet(arguments.output)
    users = None
    if arguments.users_file is not None:
        users = _read_ids(arguments.users_file)
    elif arguments.users is not None:
        users = _ids(arguments.users)
    log_warnings()
    from recbole_llm.files import replacing
    from recbole_llm.runs.loaded import load

    loaded = load(arguments.run, arguments.data_path)
    histories = None if arguments.history is None else list(map(_ids, arguments.history))
    table = loaded.recommend(users, histories=histories, k=arguments.k, hide=arguments.hide)
    content = _content(table, arguments.format)
    if arguments.output is None:
        sys.stdout.write(content.decode())
        return 0
    with replacing(arguments.output) as file:
        file.write(content)
    print(f"{arguments.output}: {len(table):,} rows")
    return 0


def _ids(text: str) -> list[str]:
    """Return the ids of a text with commas, without blanks around them."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _read_ids(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    ids = [line for line in lines if line]
    if not ids:
        raise ValueError(f"{path} is empty; it should have one user id a line.")
    return ids


def _check_parquet(output: Path | None) -> None:
    """Check that there is a file to write, and a library that writes it.

    Raises:
        ValueError: no ``--output`` is given.
        ImportError: pyarrow is not installed.
    """
    if output is None:
        raise ValueError("--format=parquet needs --output=FILE.")
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "--format=parquet needs pyarrow: `pip install pyarrow`, or choose csv or jsonl."
        ) from error


def _content(table: "pd.DataFrame", form: str) -> bytes:
    """Return a table of recommendations in one of the forms."""
    if form == "table":
        from tabulate import tabulate

        rows = table.astype({"score": object}).values.tolist()
        text = tabulate(rows, headers=list(table.columns), floatfmt=".4f", disable_numparse=[0, 2])
        return f"{text}\n".encode()
    if form == "csv":
        from recbole_llm.report.csv_files import to_csv

        return to_csv([list(table.columns), *map(list, table.itertuples(index=False))]).encode()
    if form == "jsonl":
        rows = table.to_dict("records")
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
