"""LightGCN: a training epoch and a validation, RecBole's own against recbole-llm's.

Both sides run in this process on the same split, from the same weights: RecBole's LightGCN with
RecBole's loaders and Trainer, and ours with ours. An epoch's time is measured on its first batches
(loader included) and scaled to all; a validation is timed whole.
"""

import argparse
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import (
    First,
    Report,
    alternate,
    data_settings,
    make_config,
    make_split,
    parse_arguments,
    scratch,
)
from recbole.data.utils import create_samplers, get_dataloader
from recbole.trainer import Trainer
from recbole.utils import init_seed
from torch import Tensor, nn

from recbole_llm.data.loading import Split, build_loaders
from recbole_llm.trainer.trainer import build_trainer

THEIRS, OURS = "RecBole", "recbole-llm"
MODELS = {THEIRS: "recbole.model.general_recommender.lightgcn:LightGCN", OURS: "LightGCN"}
# require_pow: RecBole's L2 term is otherwise of norms, not of their squares as in the paper.
SETTINGS = {"n_layers": 3, "reg_weight": 1.0e-4, "require_pow": True, "train_batch_size": 2048}
SETTINGS |= {"eval_batch_size": 4096, "metrics": ["Recall", "NDCG"], "topk": [10, 20]}
TARGETS = {"baby": (1.8, 3.5), "sports": (2.5, 3.5)}  # training, validation
N_CHECKED = 5  # training steps compared
N_USERS = 128  # a batch of the second comparison; the default of recbole-llm


class Side(NamedTuple):
    """One implementation, ready to train and to validate."""

    model: nn.Module
    trainer: Any
    train: Any
    valid: Any
    valid_large: Any  # RecBole's loader with as many users a batch as ours


def build(name: str, settings: dict[str, Any], split: Split) -> Side:
    config = make_config(MODELS[name], settings, **SETTINGS)
    init_seed(config["seed"], config["reproducibility"])
    model = config.model_class(config, split.train)
    if name == OURS:
        loaders = build_loaders(config, split)
        trainer = build_trainer(config, model)
        return Side(model, trainer, loaders.train, loaders.valid, loaders.valid)
    train_sampler, valid_sampler, _ = create_samplers(config, split.dataset, list(split[1:]))
    train = get_dataloader(config, "train")(config, split.train, train_sampler, shuffle=True)
    make_valid = get_dataloader(config, "valid")
    valid = make_valid(config, split.valid, valid_sampler, shuffle=False)
    large = {**SETTINGS, "eval_batch_size": N_USERS * split.dataset.item_num}
    large_config = make_config(MODELS[name], settings, **large)
    valid_large = make_valid(large_config, split.valid, valid_sampler, shuffle=False)
    return Side(model, Trainer(config, model), train, valid, valid_large)


def check_training(report: Report, label: str, theirs: Side, ours: Side) -> None:
    """Train both on the same batches from the same weights; their losses must agree."""
    ours.model.load_state_dict(theirs.model.state_dict())
    worst = 0.0
    for batch in islice(iter(theirs.train), N_CHECKED):
        losses = [side.trainer._train_epoch([batch], 0) for side in (theirs, ours)]
        worst = max(worst, abs(losses[0] - losses[1]))
    report.check(f"{label}: largest difference of the first {N_CHECKED} losses", worst, 1e-5)


def check_validation(report: Report, label: str, theirs: Side, ours: Side) -> None:
    """Rank with the same weights; metrics and every user's list must be the same."""
    ours.model.load_state_dict(theirs.model.state_dict())
    lists: list[Tensor] = []
    collect = theirs.trainer.eval_collector.eval_batch_collect

    def keep_lists(scores: Tensor, *rest: Any) -> None:
        lists.append(scores.topk(max(SETTINGS["topk"])).indices)
        collect(scores, *rest)

    theirs.trainer.eval_collector.eval_batch_collect = keep_lists
    expected = validate(theirs, theirs.valid_large)
    theirs.trainer.eval_collector.eval_batch_collect = collect
    found = validate(ours, ours.valid)
    ranking = ours.trainer.ranking
    users = int((torch.cat(lists) != ranking.items).any(dim=1).sum())
    report.check(f"{label}: of {len(ranking.users)} users, lists that differ", users, 0)
    worst = max(abs(found[name] - expected[name]) for name in expected)
    report.check(f"{label}: largest difference of a metric", worst, 0)


def validate(side: Side, loader: Any) -> dict[str, float]:
    side.model.restore_user_e = side.model.restore_item_e = None  # as after any training step
    return side.trainer.evaluate(loader, False)


def benchmark(
    report: Report, label: str, settings: dict[str, Any], arguments: argparse.Namespace
) -> None:
    split, size = make_split(make_config(MODELS[OURS], settings, **SETTINGS))
    report.data(label, size)
    sides = {name: build(name, settings, split) for name in MODELS}
    target = next((t for key, t in TARGETS.items() if key in label), (None, None))

    check_training(report, label, *sides.values())
    n = min(arguments.batches, len(sides[OURS].train))
    scale = size["n_train"] / min(n * SETTINGS["train_batch_size"], size["n_train"])
    times = alternate(
        {
            name: lambda side=side: side.trainer._train_epoch(First(side.train, n), 0)
            for name, side in sides.items()
        },
        arguments.repeats,
        dict.fromkeys(sides, scale),
    )
    report.compare(label, "training epoch", times[THEIRS], times[OURS], target[0])

    check_validation(report, label, *sides.values())
    theirs, ours = sides[THEIRS], sides[OURS]
    large = f"{THEIRS}, {N_USERS} users a batch"
    times = alternate(
        {
            THEIRS: lambda: validate(theirs, theirs.valid),
            OURS: lambda: validate(ours, ours.valid),
            large: lambda: validate(theirs, theirs.valid_large),
        },
        arguments.validations,
        warm_up=False,  # the check was the warm-up
    )
    for name, what in (
        (THEIRS, f"validation, eval_batch_size {SETTINGS['eval_batch_size']} (RecBole's default)"),
        (large, f"validation, RecBole given {N_USERS} users a batch"),
    ):
        report.compare(label, what, times[name], times[OURS], target[1] if name == THEIRS else None)


def main() -> None:
    arguments = parse_arguments(__doc__, batches=15, repeats=7, validations=3)
    report = Report("lightgcn", arguments)
    with scratch() as folder:
        for label, settings in data_settings(arguments, Path(folder)):
            benchmark(report, label, settings, arguments)
    report.finish()


if __name__ == "__main__":
    main()
