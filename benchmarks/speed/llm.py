"""Language-model recommenders: targets trained and users ranked a second, and peak memory.

One HeLLM on random item tables reads ml-100k (RecBole carries it), histories of 50 items, and the
first layers of the embedded language model. Training: one sample a prefix, as the papers' code has
it, against windows, where one forward pass trains every item. Ranking: one user at a time, as the
authors' code has it, against batches in which the prompt's head is read once. Either side's steps
and memory are measured in turn, the memory in processes of their own.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import cycle, islice
from typing import Any, NamedTuple

import torch
from common import (
    Report,
    alternate,
    make_config,
    make_split,
    markdown,
    memory_now,
    parse_arguments,
    reset_peak,
    scratch,
    train_step,
)
from recbole.data.interaction import Interaction
from recbole.utils import init_seed
from torch import nn

from recbole_llm.data.loading import Loaders, build_loaders
from recbole_llm.model.hellm.hellm import HeLLM
from recbole_llm.trainer.trainer import build_trainer

WIDTH = 64  # of each random item table
N_CHECKED = 6  # windows whose loss, and users whose scores, are compared
TOKENS = 1600  # item slots a batch of windows
CASES: dict[str, dict[str, Any]] = {
    "short prompt, no tail": {"prompt": "hellm_items", "use_graph_prefix": False},
    "short prompt, no tail, graph prefix": {"prompt": "hellm_items"},
    "long prompt with tail": {"prompt": "hellm", "use_graph_prefix": False},
    "long prompt with tail, graph prefix": {"prompt": "hellm"},
}
TARGETS = {"targets trained": 8.0, "users ranked": 5.0}


class Side(NamedTuple):
    """A model, its optimizer and its loaders."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loaders: Loaders
    size: dict[str, int]


def build(case: str, training: str, arguments: argparse.Namespace) -> Side:
    """Build the model of one case and side from the same seed; dropout is off, to compare."""
    more: dict[str, Any] = {"train_batch_size": arguments.rows}
    if training == "windows":
        more = {"train_batch_tokens": TOKENS}
    config = make_config(
        "HeLLM",
        {"dataset": "ml-100k"},
        training=training,
        llm_num_layers=arguments.layers,
        lora_dropout=0.0,
        prefix_dropout=0.0,
        **CASES[case],
        **more,
    )
    split, size = make_split(config)
    generator = torch.Generator().manual_seed(0)
    shape = split.dataset.item_num, WIDTH
    outputs = {
        name: {"item_embedding": torch.randn(*shape, generator=generator)}
        for name in ("graph", "sequence")
    }
    init_seed(config["seed"], config["reproducibility"])
    model = HeLLM(config, split.train, outputs)
    return Side(model, build_trainer(config, model).optimizer, build_loaders(config, split), size)


# -- answers -----------------------------------------------------------------------------------


def as_prefixes(model: nn.Module, windows: Interaction) -> Interaction:
    """Return every prefix of some windows as a sample."""
    items, targets = windows[model.ITEM_SEQ], windows["target_id_list"]
    row, column = (targets > 0).nonzero(as_tuple=True)
    return Interaction(
        {
            model.ITEM_SEQ: items[row] * (torch.arange(items.size(1)) <= column.unsqueeze(1)),
            model.ITEM_SEQ_LEN: column + 1,
            model.ITEM_ID: targets[row, column],
        }
    )


def check(report: Report, case: str, prefixes: Side, windows: Side) -> None:
    """Compare losses and scores; the two trainings see another graph prefix, and differ there."""
    windows.model.load_state_dict(prefixes.model.state_dict())
    prefixes.model.eval()
    windows.model.eval()
    batch = next(iter(windows.loaders.train))[:N_CHECKED]
    users = next(iter(windows.loaders.test))[0][-N_CHECKED:]
    rank = windows.model.full_sort_predict
    with torch.no_grad():
        together = rank(users).view(N_CHECKED, -1)
        alone = torch.stack([rank(users[row : row + 1]) for row in range(N_CHECKED)])
        gap = float((together - alone).abs().max())
        report.check(f"{case}: largest difference of a score, users together and alone", gap, 1e-4)
        if windows.model.prefix is not None:
            return
        loss = windows.model.calculate_loss(batch)
        other = prefixes.model.calculate_loss(as_prefixes(prefixes.model, batch))
        gap = float((loss - other).abs())
        report.check(f"{case}: difference of the loss, windows and prefixes", gap, 1e-4)
        other = prefixes.model.full_sort_predict(users).view(N_CHECKED, -1)
        gap = float((together - other).abs().max())
        report.check(f"{case}: largest difference of a score, windows and prefixes", gap, 1e-4)


# -- speed -------------------------------------------------------------------------------------


def trainer(side: Side, n: int) -> tuple[Callable[[], None], int]:
    """Return a function that trains on ``n`` batches, always the same, and their targets."""
    batches = list(islice(cycle(side.loaders.train), n))
    field = "target_id_list" if "target_id_list" in batches[0] else side.model.ITEM_ID

    def run() -> None:
        side.model.train()
        for batch in batches:
            train_step(side.model, side.optimizer, batch)

    return run, sum(int((batch[field] > 0).sum()) for batch in batches)


def ranker(side: Side, n_users: int, at_once: int) -> Callable[[], None]:
    """Return a function that scores the test's last users, who have the longest histories."""
    batches = [batch[0] for batch in side.loaders.test][-3:]
    chosen = [part for batch in batches for part in _split(batch, at_once)][-(n_users // at_once) :]

    @torch.no_grad()
    def run() -> None:
        side.model.eval()
        for batch in chosen:
            side.model.full_sort_predict(batch)

    return run


def _split(batch: Interaction, n_rows: int) -> list[Interaction]:
    return [batch[begin : begin + n_rows] for begin in range(0, len(batch), n_rows)]


def speed(report: Report, case: str, arguments: argparse.Namespace) -> list[list[str]]:
    """Check one case, time both sides of training and of ranking, and return the table's lines."""
    prefixes, windows = (build(case, training, arguments) for training in ("prefixes", "windows"))
    report.data("ml-100k", windows.size)
    check(report, case, prefixes, windows)
    theirs, n_theirs = trainer(prefixes, arguments.batches)
    ours, n_ours = trainer(windows, arguments.batches)
    # Seconds are those of a thousand targets, or of a hundred users.
    times = {
        "targets trained": alternate(
            {"theirs": theirs, "ours": ours},
            arguments.repeats,
            {"theirs": 1000 / n_theirs, "ours": 1000 / n_ours},
        ),
        "users ranked": alternate(
            {"theirs": ranker(prefixes, 32, 1), "ours": ranker(windows, 128, 64)},
            arguments.repeats,
            {"theirs": 100 / 32, "ours": 100 / 128},
        ),
    }
    peak = {side: peak_mb(case, side, arguments) for side in ("prefixes", "windows")}
    lines = []
    for what, unit in (("targets trained", 1000), ("users ranked", 100)):
        pair = times[what]
        report.compare(case, what, pair["theirs"], pair["ours"], TARGETS[what])
        row = report.content["rows"][-1]
        row["peak_mb"] = peak
        rates = (f"{unit / row[side]['median']:,.1f}" for side in ("theirs_s", "ours_s"))
        ratio = f"**{row['ratio']['median']:.1f}** ({row['cpu_ratio']:.1f})"
        memory = f"{peak['prefixes']:,.0f} / {peak['windows']:,.0f}" if unit == 1000 else ""
        lines.append([case, what, *rates, ratio, f"{TARGETS[what]:g}", memory])
    return lines


# -- memory ------------------------------------------------------------------------------------


def peak_mb(case: str, training: str, arguments: argparse.Namespace) -> float:
    """Return the memory that one side's steps add at most, measured in a process of its own."""
    command = [sys.executable, __file__, "--measure", case, training]
    command += [str(arguments.layers), str(arguments.rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def measure_here(case: str, training: str, layers: str, rows: str) -> float:
    """Train on four batches in this fresh process; return the peak above what it began with, MB."""
    torch.set_num_threads(1)
    side = build(case, training, argparse.Namespace(layers=int(layers), rows=int(rows)))
    run, _ = trainer(side, 4)
    for weight in [*side.model.parameters(), *side.model.buffers()]:
        weight.sum()  # read from the file now, not when a step first looks at it
    before, floor = memory_now("VmRSS"), reset_peak()
    run()
    return (memory_now("VmHWM") - max(before, floor)) / 1e6


def main() -> None:
    """Measure every case, or one side's memory."""
    if sys.argv[1:2] == ["--measure"]:
        with scratch():
            print(json.dumps(measure_here(*sys.argv[2:])))
        return
    arguments = parse_arguments(__doc__, layers=2, rows=64, batches=3, repeats=3)
    report = Report("llm", arguments, theirs="one by one")
    with scratch():
        lines = [line for case in CASES for line in speed(report, case, arguments)]
    head = ["prompt", "what", "one by one, a second", "recbole-llm, a second"]
    head += ["ratio (of CPU time)", "target", "peak of a step, MB"]
    report.finish(markdown(head, lines))


if __name__ == "__main__":
    main()
