"""``recbole_llm export``: a finished run as a folder for other programs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from recbole_llm.cli.logs import log_warnings
from recbole_llm.cli.settings import refuse_settings

HELP = "write a run's embeddings, score head, adapter, settings and model card to a folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run, the folder and the form of the embeddings."""
    parser.description = (
        "Writes embeddings of users and items with their ids, the score head and LoRA weights of a "
        "language model, settings that run again, the record and a model card (README.md). The "
        "folder appears whole or not at all; what a model does not have is left out."
    )
    parser.add_argument("run", help="a finished run's folder")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--format", default="npy", help="of the embeddings: npy or safetensors")
    parser.add_argument("--data_path", help="where the data is now, if it has moved")


def run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Write the folder and print what is in it."""
    refuse_settings(rest)
    log_warnings()
    from recbole_llm.runs.export import export_run
    from recbole_llm.runs.loaded import load

    contents = export_run(load(arguments.run, arguments.data_path), arguments.to, arguments.format)
    print("\n".join(f"{arguments.to / name}: {text}" for name, text in contents.items()))
    return 0
