"""The options of ``prepare``."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_llm.prepare.addresses import VARIANTS

_HELP = {
    "amazon2014": "reviews and metadata of a category, 5-core; the papers' Baby, Sports, ...",
    "amazon2018": "the same of 2018",
    "amazon2023": "the same of 2023, all reviews",
    "yelp": "Yelp Open Dataset, fetched by hand",
    "movielens": "MovieLens 100K, 1M or 20M",
    "microlens": "MicroLens-100K",
    "mmrec": "a dataset folder of the MMRec toolbox, its split kept",
    "csv": "your own tables",
}


def prepare(argv: Sequence[str]) -> int:
    """Build a dataset's folder from a source; exit status as ``run_recbole``."""
    arguments = _parser().parse_args(argv)
    from recbole_llm.prepare.build import prepare as build
    from recbole_llm.prepare.published import comparison

    source = _source(arguments)
    try:
        prepared = build(
            source,
            arguments.data_path,
            name=arguments.name,
            filters=_filters(source, arguments),
            raw_dir=arguments.raw_dir,
            mirror=arguments.mirror,
            retries=arguments.retries,
            overwrite=arguments.overwrite,
            tell=lambda text: print(text, file=sys.stderr, flush=True),
        )
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with what was fetched", file=sys.stderr)
        return 130
    print(_report(prepared.manifest))
    size = {key: prepared.manifest["statistics"][key] for key in ("users", "items", "interactions")}
    print("\n".join(comparison(source.key, source.dataset, **size)))
    where = "" if arguments.data_path == Path("dataset") else f" --data_path={arguments.data_path}"
    print(f"\nwritten: {prepared.folder}; settings, counts and checksums: manifest.json there")
    print(f"train:   run_recbole --model=LightGCN --dataset={prepared.folder.name}{where}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recbole_llm prepare",
        description="Builds a dataset's folder of atomic files from its public source, or from "
        "files of your own. Downloads are resumed; the folder appears whole or not at all.",
        allow_abbrev=False,
    )
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for key, text in _HELP.items():
        source = sources.add_parser(key, help=text, description=text, allow_abbrev=False)
        _add_own(source, key)
        _add_common(source, key)
    return parser


def _add_own(parser: argparse.ArgumentParser, key: str) -> None:
    add = parser.add_argument
    if key.startswith("amazon"):
        add("--category", required=True, help=f"one of {', '.join(VARIANTS[key])}")
    if key == "amazon2014":
        add("--image_features", action="store_true", help="also the image features (gigabytes)")
    if key == "movielens":
        add("--size", required=True, choices=VARIANTS[key], help="which of them")
    if key == "microlens":
        add("--image_features", action="store_true", help="also image, text and video features")
    if key == "mmrec":
        add("--path", required=True, type=Path, help="folder with the .inter file")
    if key == "csv":
        add("--inter", required=True, type=Path, help="interactions: .csv, .tsv, or those as .gz")
        add("--item", type=Path, help="items; all columns but the identifier become words")
        add("--user_column", default="user_id", help="name in the header (default: %(default)s)")
        add("--item_column", default="item_id", help="the same (default: %(default)s)")
        add("--rating_column", default="", help="the same; none: no ratings")
        add("--time_column", default="", help="the same: Unix seconds or ISO dates; none: no time")
        add("--separator", default="", help="default: a tab in .tsv, else a comma")


def _add_common(parser: argparse.ArgumentParser, key: str) -> None:
    add = parser.add_argument
    add("--name", help="of the dataset; default: the papers' name")
    add("--data_path", type=Path, default=Path("dataset"), help="parent of the dataset's folder")
    add("--overwrite", action="store_true", help="replace the folder if it is there")
    if key != "mmrec":  # it comes split: what a filter drops would be missing from the split
        add("--k_core", type=int, help="least interactions of a user and an item; 0: no filter")
        add("--min_rating", type=float, help="leave lower ratings out")
        add("--duplicates", help="of a repeated pair keep the first, last (by time) or all")
        add("--since", metavar="DATE", help="leave earlier interactions out, e.g. 2019-01-01 (UTC)")
        add("--until", metavar="DATE", help="leave out what is on that date or later")
    local = key in ("mmrec", "csv")
    text = argparse.SUPPRESS if local else None
    add(
        "--raw_dir",
        "--raw-dir",
        type=Path,
        help=text or f"raw files, also those fetched by hand; default: <data_path>/raw/{key}",
    )
    add("--mirror", metavar="URL", help=text or "fetch from there, by the same paths; noted")
    add("--retries", type=int, default=5, help=text or "attempts in a row (default: %(default)s)")


def _source(arguments: argparse.Namespace) -> Any:
    from recbole_llm.prepare import sources

    key = arguments.source
    if key.startswith("amazon"):
        if arguments.category not in VARIANTS[key]:
            near = difflib.get_close_matches(arguments.category, VARIANTS[key], n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"{key} has no category {arguments.category!r}.{hint} "
                f"It has: {', '.join(VARIANTS[key])}."
            )
        if key == "amazon2014":
            return sources.Amazon2014(arguments.category, arguments.image_features)
        kind = sources.Amazon2018 if key == "amazon2018" else sources.Amazon2023
        return kind(arguments.category)
    if key == "csv":
        roles = ("user", "item", "rating", "time")
        columns = {role: getattr(arguments, f"{role}_column") for role in roles}
        return sources.Table(arguments.inter, arguments.item, columns, arguments.separator)
    if key == "movielens":
        return sources.MovieLens(arguments.size)
    if key == "microlens":
        return sources.MicroLens(arguments.image_features)
    return sources.MMRec(arguments.path) if key == "mmrec" else sources.Yelp()


def _filters(source: Any, arguments: argparse.Namespace) -> Any:
    """Return the source's filters with what was asked for in their place."""
    given = {name: getattr(arguments, name, None) for name in source.filters._fields}
    return source.filters._replace(**{k: v for k, v in given.items() if v is not None})


def _report(manifest: dict[str, Any]) -> str:
    from tabulate import tabulate

    rows = []
    for file, count in manifest["lines"].items():
        rows.append((f"lines of {file}", count["read"]))
        if count["malformed"]:
            numbers = ", ".join(map(str, count["first_malformed"]))
            what = f"  malformed, skipped (first: {numbers}; {count['problem'][:80]})"
            rows.append((what, count["malformed"]))
    rows += [(name.replace("_", " "), number) for name, number in manifest["steps"].items()]
    statistics = manifest["statistics"]
    rows += [(name, statistics[name]) for name in ("users", "items", "interactions")]
    rows.append(("sparsity", f"{statistics['sparsity']:.4%}"))
    if f"{manifest['dataset']}.item" in manifest["files"]:
        rows.append(("items described", statistics["items_described"]))
    for file, note in manifest["features"].items():
        rows.append((f"items without a row in {file}", note["items_without"]))
    return tabulate(rows, intfmt=",")
