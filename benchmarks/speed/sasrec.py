"""SASRec: seconds an epoch, RecBole's own against SASRecCausal, on ml-100k (RecBole carries it).

RecBole makes every prefix of a user's sequence a sample; SASRecCausal reads a window once and
learns from every position of it. The states are the same; the objectives are not quite (a window's
first positions see less of the past, and an epoch has fewer steps), so this is the price of a pass
over all targets and not the time to a given accuracy.

RecBole's epoch is timed on some of its batches and scaled to all; ours is timed whole.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from common import Report, alternate, make_config, make_split, parse_arguments, scratch
from recbole.data.utils import create_samplers, get_dataloader
from recbole.trainer import Trainer
from recbole.utils import init_seed
from torch import nn

from recbole_llm.data.history import UserHistory
from recbole_llm.data.loading import Split, build_loaders
from recbole_llm.trainer.trainer import build_trainer

THEIRS, QUIET, OURS = "RecBole", "RecBole without anomaly detection", "recbole-llm"
TARGET = 30.0
N_USERS = 32  # whose states are compared
_IMPORT_ALONE = """
import torch
from recbole.utils import get_model
get_model("SASRec")
print(torch.is_anomaly_enabled())
"""


def check_states(report: Report, theirs: nn.Module, ours: nn.Module, split: Split) -> None:
    """Our state at every position must be RecBole's of the prefix that ends there."""
    ours.load_state_dict(theirs.state_dict())
    theirs.eval()
    ours.eval()
    history = UserHistory.of([split.train])
    users = torch.arange(1, N_USERS + 1)
    items, length = history.last(users, theirs.max_seq_length)  # (B, L), (B,)
    row, column = (items > 0).nonzero(as_tuple=True)  # a prefix for each real position
    prefixes = items[row] * (torch.arange(items.size(1)) <= column.unsqueeze(1))
    with torch.no_grad():
        expected = theirs(prefixes, column + 1)
        found = ours.states(items)[row, column]
    what = f"largest difference of {len(row):,} states, {int(length.sum()):,} positions"
    report.check(what, float((expected - found).abs().max()), 1e-5)


def some_batches(trainer: Trainer, loader: Any, n: int, anomaly: bool) -> Callable[[], None]:
    def run() -> None:
        with torch.autograd.set_detect_anomaly(anomaly):
            trainer._train_epoch(islice(iter(loader), n), 0)

    return run


def benchmark(report: Report, settings: dict[str, Any], arguments: argparse.Namespace) -> None:
    # None: RecBole refuses its own default beside a full softmax
    config = make_config("SASRec", settings, train_neg_sample_args=None)
    init_seed(config["seed"], config["reproducibility"])
    split, _ = make_split(config)
    theirs = config.model_class(config, split.train)
    sampler = create_samplers(config, split.dataset, list(split[1:]))[0]
    train = get_dataloader(config, "train")(config, split.train, sampler, shuffle=True)
    trainer = Trainer(config, theirs)

    our_config = make_config("SASRecCausal", settings)
    our_split, size = make_split(our_config)
    ours = our_config.model_class(our_config, our_split.train)
    our_train = build_loaders(our_config, our_split).train
    our_trainer = build_trainer(our_config, ours)
    samples = {"n_prefixes": len(split.train), "n_windows": our_train.sample_size}
    report.data(settings["dataset"], size | samples)

    check_states(report, theirs, ours, our_split)
    alone = [sys.executable, "-W", "ignore", "-c", _IMPORT_ALONE]
    anomaly = subprocess.run(alone, capture_output=True, text=True, check=True).stdout.strip()
    report.check(
        "RecBole alone loads SASRec and anomaly detection is then off (0: it is on)",
        float(anomaly != "True"),
        0,
    )

    n = min(arguments.batches, len(train))
    scale = len(split.train) / min(n * train.step, len(split.train))
    times = alternate(
        {
            THEIRS: some_batches(trainer, train, n, anomaly=True),
            OURS: lambda: our_trainer._train_epoch(our_train, 0),
            QUIET: some_batches(trainer, train, n, anomaly=False),
        },
        arguments.repeats,
        {THEIRS: scale, QUIET: scale},
    )
    label = f"{settings['dataset']}, {len(split.train):,} prefixes"
    for name, target in ((THEIRS, TARGET), (QUIET, None)):
        what = "training epoch" + name.removeprefix(THEIRS).replace("without", ", RecBole without")
        report.compare(label, what.replace(" ,", ","), times[name], times[OURS], target)


def main() -> None:
    arguments = parse_arguments(__doc__, batches=1, repeats=5)
    settings = {"dataset": "ml-100k"}
    if arguments.data_path:
        settings = {"dataset": arguments.dataset[0], "data_path": str(arguments.data_path)}
    report = Report("sasrec", arguments)
    with scratch():
        benchmark(report, settings, arguments)
    report.finish()


if __name__ == "__main__":
    main()
