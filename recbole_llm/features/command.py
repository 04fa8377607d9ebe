"""The sub-command ``encode`` of ``recbole_llm``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_llm.features.pipeline import Encoded

#: Any model will do: of the settings only those of the data are read.
MODEL = "BPR"

_DESCRIPTION = (
    "Encodes the items' text or images into <modality>_feat.npy in the data set's folder, with a "
    "manifest beside it. The rows are in the order of item_ids.txt, which decides which items have "
    "one and is written in the order of the .item file if it is not there. A stopped or killed run "
    "is gone on with by the same command. Any other --KEY=VALUE is a setting of the data, as in "
    "run_recbole (--data_path, --cache_dir, --gpu_id, --torch_threads, --show_progress, ...)."
)
_OPTIONS: dict[str, tuple[str, type, str]] = {
    "encoder": (
        "what",
        str,
        "a folder or Hugging Face id of sentence-transformers (text; default: the embedded "
        "all-minilm-l6-v2) or of a vision model of transformers (image: CLIP, SigLIP, ViT, DINO)",
    ),
    "revision": ("what", str, "branch, tag or commit of an id"),
    "batch_size": ("what", int, "inputs encoded at a time (64)"),
    "dtype": ("what", str, "of the file: float32 (default) or float16"),
    "output": ("what", str, "FILE.npy; default: <modality>_feat.npy in the data set's folder"),
    "columns": (
        "text",
        str,
        "A,B: columns of the .item file, in this order; default: all text but ids and URLs",
    ),
    "image_folder": ("image", str, "folder of <item token>.jpg; default: images/"),
    "pooling": (
        "image",
        str,
        "projected (CLIP's image features), pooler, cls or mean (of the last hidden state); auto "
        "(default) is the first of these that the model has",
    ),
    "url_column": ("image URLs", str, "column of the .item file with the images' URLs"),
    "concurrency": ("image URLs", int, "requests at a time (16)"),
    "timeout_s": ("image URLs", float, "seconds until an image must be there (30)"),
    "request_retries": ("image URLs", int, "new tries after a time-out, 429, 5xx, lost line (4)"),
    "backoff_s": ("image URLs", float, "first wait before them, doubled each time (1)"),
    "max_megabytes": ("image URLs", float, "of an image (20)"),
}


def encode(argv: Sequence[str]) -> int:
    """Encode a data set's items; returns the exit status."""
    arguments, rest = _parser().parse_known_args(argv)
    options = vars(arguments)
    dataset = options.pop("dataset")
    logging.basicConfig(level=logging.WARNING)
    try:
        import torch

        from recbole_llm.cli import parse_settings
        from recbole_llm.config import Config
        from recbole_llm.features.pipeline import encode as encode_items
        from recbole_llm.features.pipeline import output_path
        from recbole_llm.features.settings import Settings

        settings = Settings(**options)
        given = parse_settings(rest)
        if "model" in given:
            raise ValueError("--model is not taken here: the encoder is --encoder.")
        files = given.pop("config_files", None) or []
        files = files.split() if isinstance(files, str) else list(files)
        config = Config(MODEL, dataset, files, command_line=given)
        if config["torch_threads"]:
            torch.set_num_threads(config["torch_threads"])
        print(f"output: {output_path(settings, config)}", file=sys.stderr)
        encoded = encode_items(settings, config)
    except KeyboardInterrupt:
        print("interrupted; what is done is kept, the same command goes on", file=sys.stderr)
        return 130
    print(summary(encoded, Path(config["data_path"])))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recbole_llm encode",
        description=_DESCRIPTION,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--dataset", "-d", required=True, help="name of the data set")
    parser.add_argument("--modality", required=True, metavar="text|image", help="what is encoded")
    groups: dict[str, Any] = {}
    for name, (group, kind, text) in _OPTIONS.items():
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        groups[group].add_argument(f"--{name}", type=kind, help=text, metavar=kind.__name__.upper())
    groups["what"].add_argument(
        "--overwrite", action="store_true", help="replace a file made with other settings"
    )
    groups["image URLs"].add_argument(
        "--retry_failed", action="store_true", help="fetch again what failed for good (404, ...)"
    )
    return parser


def summary(encoded: Encoded, folder: Path) -> str:
    """Return a few lines on what was done, and how to use it for the data set in ``folder``."""
    made = encoded.manifest
    why = [f"{n:,} {reason}" for part in ("missing", "failed") for reason, n in made[part].items()]
    strangers = made["interaction_items_without_row"]
    said = "is there already" if encoded.was_there else "encoded"
    lines = [
        f"{made['modality']} of {made['dataset']} by {made['encoder']}: {said}, "
        f"({made['items']:,}, {made['width']}) {made['dtype']}",
        f"items with a feature: {made['encoded']:,} of {made['items']:,} "
        f"({made['distinct_inputs']:,} distinct inputs); without: {', '.join(why) or 'none'}",
        f"manifest: {encoded.manifest_path}",
        f"features: {encoded.path}",
        f"to use them: modalities: {{{made['modality']}: {encoded.spec(folder)}}}",
    ]
    if strangers:
        lines.insert(
            2,
            f"{strangers:,} items of the interactions have no row, because item_ids.txt does not "
            f"list them; add them there and give --overwrite, or they count as without a feature",
        )
    return "\n".join(lines)
