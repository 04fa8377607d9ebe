"""``recbole_llm split``: freezes a split into files with hashes, that runs and tables name."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from recbole_llm.cli.logs import log_warnings
from recbole_llm.cli.settings import parse_settings

if TYPE_CHECKING:
    from recbole_llm.splitting.frozen import FrozenSplit

HELP = "freeze a split into files with hashes, that runs and tables name"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the dataset, the protocol and the split's name and options."""
    parser.description = (
        "Splits a dataset and freezes the split in <data_path>/<dataset>/splits/<name>/: the parts "
        "as .inter files, and a manifest with their sha256 sums. `run_recbole --dataset=D "
        "--split=<name>` trains on it. Any other --KEY=VALUE is a setting of the data, as in "
        "run_recbole (--data_path, --seed, --config_files, --user_inter_num_interval, "
        "--val_interval, ...)."
    )
    from recbole_llm.splitting.protocols import PROTOCOLS

    lines = [
        f"  {name:<13} {protocol.help}" + (" (timestamps)" if protocol.needs_time else "")
        for name, protocol in PROTOCOLS.items()
    ]
    parser.epilog = "\n".join(["protocols:", *lines])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--dataset", "-d", required=True, help="name of the dataset")
    parser.add_argument("--protocol", required=True, metavar="NAME", help="see below")
    parser.add_argument(
        "--name", help="name of the split; default: the protocol, and the seed where it draws"
    )
    parser.add_argument(
        "--cold_share", type=float, default=0.2, help="share of cold users or items (0.2)"
    )
    parser.add_argument(
        "--unseen_users",
        choices=["drop", "keep"],
        help="held-out interactions of users without a training one (drop; cold_users: keep)",
    )


def run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Freeze a split and print its sizes."""
    log_warnings()
    from recbole_llm.data.freeze import data_config, freeze_split

    config = data_config(arguments.dataset, arguments.protocol, parse_settings(rest))
    frozen, _ = freeze_split(
        config,
        arguments.protocol,
        arguments.name,
        cold_share=arguments.cold_share,
        unseen_users=arguments.unseen_users,
    )
    print(_summary(frozen))
    return 0


def _summary(frozen: "FrozenSplit") -> str:
    """Return the sizes of a split's parts, its digest and how to use it."""
    manifest, counts = frozen.manifest, frozen.manifest["counts"]
    seed = "" if manifest["seed"] is None else f", seed {manifest['seed']}"
    lines = [f"{manifest['dataset']} ({frozen.protocol}{seed}), split {frozen.name!r}"]
    for part, sizes in counts["parts"].items():
        line = f"{part:<5}  {counts[part]:>12,} interactions of {sizes['users']:,} users and "
        line += f"{sizes['items']:,} items"
        unseen = [
            f"{sizes[f'unseen_{kind}']:,} {kind}"
            for kind in ("users", "items")
            if sizes.get(f"unseen_{kind}")
        ]
        lines.append(line + (f"; {' and '.join(unseen)} not in training" if unseen else ""))
    for reason, number in counts["dropped"].items():
        if number:
            text = {
                "filtered": "left out by the settings (filters, or no user or item)",
                "unseen_users": "held out, of users without a training one: dropped",
            }[reason]
            lines.append(f"       {number:>12,} interactions {text}")
    lines += [
        f"sha256 {frozen.sha256}",
        f"{frozen.folder}",
        f"run_recbole --model=NAME --dataset={manifest['dataset']} --split={frozen.name}",
    ]
    return "\n".join(lines)
