"""``recbole_llm encode``: makes feature files of the items' text or images."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_llm.cli.logs import log_warnings
from recbole_llm.cli.options import add_options, build_settings
from recbole_llm.cli.settings import parse_data_settings

if TYPE_CHECKING:
    from recbole_llm.features.pipeline import Encoded

HELP = "make feature files of the items' text or images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the dataset, and the options of ``features.settings``."""
    from recbole_llm.features.settings import EncodeSettings

    parser.description = (
        "Encodes the items' text or images into <modality>_feat.npy in the dataset's folder, and "
        "writes a manifest next to it. The rows are in the order of item_ids.txt, which decides "
        "which items have one; if it does not exist, it is written in the order of the .item file. "
        "The same command resumes a stopped or killed run. Any other --KEY=VALUE is a setting of "
        "the data, as in run_recbole (--data_path, --cache_dir, --gpu_id, --torch_threads, "
        "--show_progress, ...)."
    )
    parser.add_argument("--dataset", "-d", required=True, help="name of the dataset")
    add_options(parser, EncodeSettings)
    parser.set_defaults(interrupted="finished work is kept, and the same command resumes")


def run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Encode a dataset's items and print the counts."""
    log_warnings()
    from recbole_llm.features.settings import EncodeSettings

    settings = build_settings(arguments, EncodeSettings)
    given = parse_data_settings(rest, "--encoder")
    from recbole_llm.data.freeze import data_config
    from recbole_llm.features.pipeline import encode_items, output_path

    config = data_config(arguments.dataset, None, given)
    print(f"output: {output_path(settings, config)}", file=sys.stderr)
    encoded = encode_items(settings, config)
    print(_summary(encoded, Path(config["data_path"])))
    return 0


def _summary(encoded: "Encoded", folder: Path) -> str:
    """Return what was done, and how to use it for the dataset in ``folder``."""
    manifest = encoded.manifest
    reasons = [
        f"{number:,} {reason}"
        for part in ("missing", "failed")
        for reason, number in manifest[part].items()
    ]
    unlisted = manifest["interaction_items_without_row"]
    status = "encoded" if encoded.is_new else "encoded before"
    lines = [
        f"{manifest['modality']} of {manifest['dataset']} by {manifest['encoder']}: {status}, "
        f"({manifest['items']:,}, {manifest['width']}) {manifest['dtype']}",
        f"items with a feature: {manifest['encoded']:,} of {manifest['items']:,} "
        f"({manifest['distinct_inputs']:,} distinct inputs); without: "
        f"{', '.join(reasons) or 'none'}",
    ]
    if unlisted:
        lines.append(
            f"{unlisted:,} items of the interactions have no row, because item_ids.txt does not "
            f"list them; add them there and give --overwrite, or they count as without a feature"
        )
    return "\n".join(
        [
            *lines,
            f"manifest: {encoded.manifest_path}",
            f"features: {encoded.path}",
            f"to use them: modalities: {{{manifest['modality']}: {encoded.spec(folder)}}}",
        ]
    )
