"""The options of ``prepare``: those of each source, and those that all sources share."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_llm.prepare.build import prepare_dataset
from recbole_llm.prepare.filters import Filters
from recbole_llm.prepare.sources import SOURCES
from recbole_llm.prepare.sources.base import Option, Source
from recbole_llm.prepare.summary import comparison, count_table


def prepare(argv: Sequence[str]) -> int:
    """Build a dataset's folder from a source; exit status as ``run_recbole``."""
    arguments = _parser().parse_args(argv)
    source = source_from(arguments)
    try:
        prepared = prepare_dataset(
            source,
            arguments.data_path,
            name=arguments.name,
            filters=_filters(source, arguments),
            raw_dir=arguments.raw_dir,
            mirror=arguments.mirror,
            retries=arguments.retries,
            overwrite=arguments.overwrite,
            report=lambda text: print(text, file=sys.stderr, flush=True),
        )
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with what was fetched", file=sys.stderr)
        return 130
    print(count_table(prepared.manifest))
    size = {key: prepared.manifest["statistics"][key] for key in ("users", "items", "interactions")}
    print("\n".join(comparison(source, **size)))
    parent = "" if arguments.data_path == Path("dataset") else f" --data_path={arguments.data_path}"
    print(f"\nwritten: {prepared.folder}; settings, counts and checksums: manifest.json there")
    print(f"train:   run_recbole --model=LightGCN --dataset={prepared.folder.name}{parent}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recbole_llm prepare",
        description="Builds a dataset's folder of atomic files from its public source, or from "
        "files of your own. Downloads are resumed; the folder appears whole or not at all.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for key, source in SOURCES.items():
        command = commands.add_parser(
            key, help=source.HELP, description=source.HELP, allow_abbrev=False
        )
        for option in source.options:
            _add_option(command, option)
        _add_dataset_options(command)
        if not source.is_split:
            _add_filter_options(command)
        _add_download_options(command, source)
    return parser


def _add_option(parser: argparse.ArgumentParser, option: Option) -> None:
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
    add("--name", help="of the dataset; default: the papers' name")
    add("--data_path", type=Path, default=Path("dataset"), help="parent of the dataset's folder")
    add("--overwrite", action="store_true", help="replace the folder if it is there")


def _add_filter_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--k_core", type=int, help="least interactions of a user and an item; 0: no filter")
    add("--min_rating", type=float, help="leave lower ratings out")
    add("--duplicates", help="of a repeated pair keep the first, last (by time) or all")
    add("--since", metavar="DATE", help="leave earlier interactions out, e.g. 2019-01-01 (UTC)")
    add("--until", metavar="DATE", help="leave out what is on that date or later")


def _add_download_options(parser: argparse.ArgumentParser, source: type[Source]) -> None:
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


def source_from(arguments: argparse.Namespace) -> Source:
    """Return the source that the command line describes.

    Raises:
        ValueError: an option of the source has an unknown value.
    """
    source = SOURCES[arguments.source]
    values = vars(arguments)
    return source.from_options({option.name: values[option.name] for option in source.options})


def _filters(source: Source, arguments: argparse.Namespace) -> Filters:
    """Return the source's filters, replaced by those on the command line."""
    values = vars(arguments)
    given = {name: values[name] for name in Filters._fields if values.get(name) is not None}
    return source.filters._replace(**given)
