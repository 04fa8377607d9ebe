"""``recbole_llm audit``: proves that profiles were written from training interactions only."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from recbole_llm.cli.logs import log_warnings
from recbole_llm.cli.settings import parse_data_settings

HELP = "prove that profiles were written from training interactions only"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the dataset and the folder of its profiles."""
    parser.description = (
        "Proves that profiles were written from training interactions only. Exit status 1 when a "
        "held-out interaction is in a prompt, or a prompt is missing. Any other --KEY=VALUE is a "
        "setting of the data, over those of the profiles."
    )
    parser.add_argument("--dataset", "-d", required=True, help="name of the dataset")
    parser.add_argument(
        "--profiles", type=Path, help="folder that `reason` wrote; default: the only one"
    )


def run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Audit a folder of profiles; exit status 1 if they are not clean."""
    given = parse_data_settings(rest, "--model_name of `recbole_llm reason`")
    log_warnings()
    from recbole_llm.profiles.audit import audit_profiles
    from recbole_llm.profiles.dataset import find_profiles, load_profile_data

    folder, report = find_profiles(arguments.dataset, arguments.profiles, given)
    config, split = load_profile_data(arguments.dataset, {**report["given"], **given})
    result = audit_profiles(folder, report, config, split)
    print(result.text)
    return 0 if result.is_clean else 1
