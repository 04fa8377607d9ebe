"""Cost of training as the data grows: seconds a step and an epoch, and peak memory.

A full epoch is batches times the cost of a batch, and both grow with the data. So what must grow
linearly is one step at a fixed batch size: each propagates over all edges, and each contrast of
SRGFormer compares the batch with all nodes. Users and items grow with the interactions.

Each model at each size trains in a process of its own, with RecBole's loader, for a few batches;
the first is not counted.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from common import (
    First,
    Report,
    Size,
    make_config,
    make_split,
    markdown,
    memory_now,
    parse_arguments,
    reset_peak,
    scratch,
    show_seconds,
    summary,
    train_step,
    write_dataset,
    write_features,
)
from recbole.utils import init_seed

from recbole_llm.data.loading import build_loaders
from recbole_llm.trainer.trainer import build_trainer

SETTINGS: dict[str, dict[str, Any]] = {
    "LightGCN": {},
    "FREEDOM": {},
    "SRGFormer": {"embedding_size": 64},
}
INTERACTIONS = [100_000, 300_000, 1_000_000, 3_000_000]
DIMS = {"image": 64, "text": 32}  # widths of the modalities


def grown(n_train: int) -> Size:
    """Return a size with 8 training interactions a user and 16 an item."""
    return Size(n_train // 8, n_train // 16, n_train, n_train // 8, n_train // 8)


def measure_here(name: str, settings: dict[str, Any], n_batches: int) -> dict[str, Any]:
    """Train one model in this fresh process."""
    config = make_config(name, settings, **SETTINGS[name])
    split, size = make_split(config)
    loader = build_loaders(config, split).train
    held, peak_before = memory_now("VmRSS"), reset_peak()
    init_seed(config["seed"], config["reproducibility"])
    begin = time.perf_counter()
    model = config.model_class(config, split.train)
    build_s = time.perf_counter() - begin
    optimizer = build_trainer(config, model).optimizer
    model.train()
    begin = time.perf_counter()
    if hasattr(model, "begin_epoch"):
        model.begin_epoch()
    once_s = time.perf_counter() - begin
    seconds, cpu_seconds = [], []
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in First(loader, n_batches + 1):
        train_step(model, optimizer, batch)
        seconds.append(time.perf_counter() - wall)
        cpu_seconds.append(time.process_time() - cpu)
        wall, cpu = time.perf_counter(), time.process_time()
    step = statistics.median(seconds[1:])
    return {
        "size": size,
        "build_s": build_s,
        "once_s": once_s,
        "first_s": seconds[0],
        "step_s": seconds[1:],
        "step_cpu_s": statistics.median(cpu_seconds[1:]),
        "batches": len(loader),
        "epoch_s": step * len(loader) + once_s,
        "held_before_mb": held / 1e6,
        "peak_mb": max(memory_now("VmHWM"), peak_before) / 1e6,
    }


def show(name: str, found: dict[str, Any]) -> list[str]:
    """Return one line of the table."""
    size, step = found["size"], found["step_s"]
    n = size["n_train"]
    return [
        name,
        *(f"{size[key]:,}" for key in ("n_train", "n_users", "n_items")),
        show_seconds(step),
        f"**{found['step_s_per_million']:.3g}**",
        f"{found['step_cpu_s'] / n * 1e6:.3g}",
        f"{found['batches']:,}",
        f"{found['epoch_s']:,.0f}" if found["epoch_s"] >= 1000 else f"{found['epoch_s']:.3g}",
        f"{found['build_s']:.3g}",
        f"{found['peak_mb']:,.0f}",
        f"{found['held_before_mb']:,.0f}",
    ]


HEAD = ["model", "interactions", "users", "items", "s a step", "s a step per million"]
HEAD += ["CPU s a step per million", "batches an epoch", "s an epoch", "s to build the model"]
HEAD += ["peak memory, MB", "of it held by the data, MB"]


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        name, settings, n_batches, threads = sys.argv[2:]
        torch.set_num_threads(int(threads))
        print(json.dumps(measure_here(name, json.loads(settings), int(n_batches))))
        return
    arguments = parse_arguments(__doc__, batches=5, interactions=INTERACTIONS)
    if arguments.dataset or arguments.data_path:
        raise SystemExit("scaling.py generates its data: choose with --interactions")
    report = Report("scaling", arguments)
    lines = []
    for n_train in arguments.interactions:
        with scratch() as folder:
            settings = write(folder, n_train)
            for name in SETTINGS:
                command = [sys.executable, __file__, "--measure", name, json.dumps(settings)]
                command += [str(arguments.batches), str(arguments.threads)]
                output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found = json.loads(output.stdout.splitlines()[-1])
                label = f"generated, {n_train:,} interactions"
                report.data(label, found["size"])
                step = statistics.median(found["step_s"])
                found["step_s_per_million"] = step / found["size"]["n_train"] * 1e6
                lines.append(show(name, found | {"step_s": summary(found["step_s"])}))
                print(f"measured: {name}, {n_train:,} interactions", file=sys.stderr, flush=True)
                del found["size"]
                report.add(data=label, what=name, **found)
    lines.sort(key=lambda line: list(SETTINGS).index(line[0]))  # stable: sizes keep their order
    report.finish(markdown(HEAD, lines))


def write(folder: Path, n_train: int) -> dict[str, Any]:
    """Write a data set with features; return the settings that read it."""
    size = grown(n_train)
    settings = write_dataset(folder, str(n_train), size)
    return settings | write_features(folder / settings["dataset"], size.n_items, DIMS)


if __name__ == "__main__":
    main()
