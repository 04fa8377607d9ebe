"""``recbole_llm prepare``: builds a dataset from its public source, or from files of your own.

Its options are those that each source declares, and those that all sources share.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_llm.cli.settings import refuse_settings

if TYPE_CHECKING:
    from recbole_llm.prepare.filters import Filters
    from recbole_llm.prepare.sources.base import Option, Source

HELP = "build a dataset from its public source, or from files of your own"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a sub-command for each source."""
    from recbole_llm.prepare.sources import SOURCES

    parser.description = (
        "Builds a dataset's folder of atomic files from its public source, or from files of your "
        "own. Downloads are resumed; the folder appears whole or not at all."
    )
    parser.set_defaults(
        interrupted="the same command resumes, and keeps the files that were fetched"
    )
    commands = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for key, source in SOURCES.items():
        command = commands.add_parser(
            key, help=source.HELP, description=source.HELP, allow_abbrev=False
        )
        for option in source.options:
            _add_option(command, option)
        _add_dataset_options(command)
        if not source.is_split:  # a filter would remove interactions from the source's own split
            _add_filter_options(command)
        _add_download_options(command, source)


def run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Build the folder, and print its counts next to published ones."""
    refuse_settings(rest)
    from recbole_llm.prepare.build import prepare_dataset
    from recbole_llm.prepare.summary import comparison, count_table

    source = _source(arguments)
    prepared = prepare_dataset(
        source,
        arguments.data_path,
        name=arguments.name,
        filters=_filters(source, arguments),
        raw_dir=arguments.raw_dir,
        mirror=arguments.mirror,
        retries=arguments.retries,
        overwrite=arguments.overwrite,
        allow_malformed=arguments.allow_malformed,
        report=_print_step,
    )
    print(count_table(prepared.manifest))
    size = {key: prepared.manifest["statistics"][key] for key in ("users", "items", "interactions")}
    print("\n".join(comparison(source, **size)))
    parent = "" if arguments.data_path == Path("dataset") else f" --data_path={arguments.data_path}"
    print(f"\nwritten: {prepared.folder}; settings, counts and checksums: manifest.json there")
    print(f"train:   run_recbole --model=LightGCN --dataset={prepared.folder.name}{parent}")
    return 0


def _print_step(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _add_option(parser: argparse.ArgumentParser, option: "Option") -> None:
    if option.is_flag:
        parser.add_argument(f"--{option.name}", action="store_true", help=option.help)
    else:
        parser.add_argument(
            f"--{option.name}",
            help=option.help,
            choices=option.choices or None,
            required=option.required,
            default=option.default,
        )


def _add_dataset_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--name", help="name of the dataset; default: the papers' name")
    add("--data_path", type=Path, default=Path("dataset"), help="parent of the dataset's folder")
    add("--overwrite", action="store_true", help="replace the folder if it exists")
    add(
        "--allow_malformed",
        action="store_true",
        help="leave malformed lines out even if they are more than 2 %% of a file",
    )


def _add_filter_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--k_core", type=int, help="least interactions of a user and an item; 0: no filter")
    add("--min_rating", type=float, help="leave lower ratings out")
    add("--duplicates", help="of a repeated pair keep the first, last (by time) or all")
    add("--since", metavar="DATE", help="leave earlier interactions out, e.g. 2019-01-01 (UTC)")
    add("--until", metavar="DATE", help="leave out what is on that date or later")


def _add_download_options(parser: argparse.ArgumentParser, source: "type[Source]") -> None:
    add, hidden = parser.add_argument, argparse.SUPPRESS if source.is_local else None
    add(
        "--raw_dir",
        "--raw-dir",
        type=Path,
        help=hidden
        or f"raw files, also those fetched by hand; default: <data_path>/raw/{source.key}",
    )
    add("--mirror", metavar="URL", help=hidden or "fetch from there, by the same paths; noted")
    add("--retries", type=int, default=5, help=hidden or "attempts in a row (default: %(default)s)")


def _source(arguments: argparse.Namespace) -> "Source":
    """Return the source that the options describe.

    Raises:
        ValueError: an option of the source has an unknown value.
    """
    from recbole_llm.prepare.sources import SOURCES

    source = SOURCES[arguments.source]
    values = vars(arguments)
    return source.from_options({option.name: values[option.name] for option in source.options})


def _filters(source: "Source", arguments: argparse.Namespace) -> "Filters":
    """Return the source's filters, each replaced by the option where that is given."""
    values = vars(arguments)
    names = source.filters._fields
    given = {name: values[name] for name in names if values.get(name) is not None}
    return source.filters._replace(**given)
