"""What the speed benchmarks share: data of a known size, paired timing, tables and JSON."""

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.loading import Split, load_split

ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("recbole-llm", "recbole", "torch", "numpy", "scipy", "pandas")


class Size(NamedTuple):
    """Users, items, and the interactions of each part of a split."""

    n_users: int
    n_items: int
    n_train: int
    n_valid: int
    n_test: int


#: Amazon Baby with its published 8:1:1 split, and Amazon Sports cut 8:1:1.
SIZES = {
    "baby": Size(19_445, 7_050, 118_551, 21_682, 20_559),
    "sports": Size(35_598, 18_357, 237_071, 29_633, 29_633),
}
_AT_LEAST = 5  # interactions a user and an item, as in the 5-core data sets
_IN_TRAIN = 3  # of a user's, always for training


def parse_arguments(description: str | None, **defaults: Any) -> argparse.Namespace:
    """Read the command line that every benchmark has; ``defaults`` adds options of its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data_path", type=Path, help="parent of data set folders; else generated")
    parser.add_argument("--dataset", nargs="+", help="names of data sets, or of sizes to generate")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of both sides")
    parser.add_argument("--output", type=Path, default=ROOT / "reports" / "speed")
    for name, value in defaults.items():
        if isinstance(value, bool):
            parser.add_argument(f"--{name}", action="store_true", default=value)
        else:
            nargs = "+" if isinstance(value, list) else None
            parser.add_argument(f"--{name}", type=int, nargs=nargs, default=value)
    arguments = parser.parse_args()
    if arguments.data_path and not arguments.dataset:
        parser.error("--data_path needs --dataset")
    if arguments.data_path is None:
        unknown = set(arguments.dataset or ()) - SIZES.keys()
        if unknown:
            parser.error(f"no size {sorted(unknown)}; there are {', '.join(SIZES)}")
    else:
        arguments.data_path = arguments.data_path.resolve()
    arguments.output = arguments.output.resolve()
    torch.set_num_threads(arguments.threads)
    return arguments


@contextmanager
def scratch() -> Iterator[Path]:
    """Work in a temporary folder: RecBole writes logs and checkpoints where it stands."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


# -- data --------------------------------------------------------------------------------------


def generate_interactions(size: Size, seed: int = 2020) -> dict[str, np.ndarray]:
    """Draw distinct interactions, at least 5 a user and an item, the rest by a power law.

    Returns:
        (n, 2) int64 of user and item, counted from 0, for ``train``, ``valid`` and ``test``.
    """
    rng = np.random.default_rng(seed)
    total = size.n_train + size.n_valid + size.n_test
    user = _power_law(size.n_users, total, 0.4, rng)
    item = rng.permutation(_power_law(size.n_items, total, 0.6, rng))
    while True:  # a pair drawn twice changes its item with a random interaction's
        key = user * size.n_items + item
        by_key = np.argsort(key, kind="stable")
        key = key[by_key]
        again = np.sort(by_key[1:][key[1:] == key[:-1]])
        if not len(again):
            break
        other = rng.permutation(total)[: len(again)]
        places = np.unique(np.concatenate([again, other]))
        item[places] = item[rng.permutation(places)]
    order = np.lexsort([rng.random(total), user])
    user, item = user[order], item[order]
    nth = np.arange(total) - np.searchsorted(user, user)
    part = np.zeros(total, dtype=np.int64)
    for number, n in ((1, size.n_valid), (2, size.n_test)):  # a user's first one, then any other
        free = rng.permutation(np.flatnonzero((part == 0) & (nth >= _IN_TRAIN)))
        wanted = np.argsort(nth[free] != _IN_TRAIN + number - 1, kind="stable")
        part[free[wanted[:n]]] = number
    pairs = np.stack([user, item], axis=1)
    return {name: pairs[part == nth] for nth, name in enumerate(("train", "valid", "test"))}


def _power_law(n_ids: int, total: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Return ``total`` ids, each at least 5 times, the rest in proportion to rank ** -exponent."""
    weight = np.arange(1, n_ids + 1) ** -exponent
    extra = rng.choice(n_ids, total - _AT_LEAST * n_ids, p=weight / weight.sum())
    ids = np.concatenate([np.repeat(np.arange(n_ids), _AT_LEAST), extra])
    return rng.permutation(n_ids)[ids]  # popularity says nothing about the id


def write_dataset(parent: Path, name: str, size: Size | None = None) -> dict[str, Any]:
    """Write a generated data set as atomic files; return the settings that read it.

    Args:
        parent: where its folder goes.
        name: of the data set.
        size: None for that of this name in ``SIZES``.
    """
    folder = parent / f"generated_{name}"
    folder.mkdir(parents=True)
    for part, pairs in generate_interactions(size or SIZES[name]).items():
        lines = "".join(f"u{user}\ti{item}\n" for user, item in pairs.tolist())
        text = "user_id:token\titem_id:token\n" + lines
        (folder / f"{folder.name}.{part}.inter").write_text(text, encoding="utf-8")
    return {
        "dataset": folder.name,
        "data_path": str(parent),
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id"]},
    }


def write_features(
    folder: Path, n_items: int, dims: Mapping[str, int], seed: int = 0
) -> dict[str, Any]:
    """Write random features of a generated data set's items; return the settings that read them."""
    rng = np.random.default_rng(seed)
    for name, dim in dims.items():
        file = folder / f"{name}.npy"
        array = np.lib.format.open_memmap(file, "w+", dtype=np.float32, shape=(n_items, dim))
        for start in range(0, n_items, 4096):
            block = array[start : start + 4096]
            block[:] = rng.standard_normal(block.shape, dtype=np.float32)
        array.flush()
    ids = "".join(f"i{item}\n" for item in range(n_items))
    (folder / "item_ids.txt").write_text(ids, encoding="utf-8")
    return {"modalities": {name: f"{name}.npy" for name in dims}}


def data_settings(arguments: argparse.Namespace, folder: Path) -> Iterator[tuple[str, dict]]:
    """Yield each data set's label and the settings that read it, generated unless it is given."""
    for name in arguments.dataset or SIZES:
        if arguments.data_path is None:
            yield f"generated, size of {name}", write_dataset(folder, name)
        else:
            yield name, {"dataset": name, "data_path": str(arguments.data_path)}


def make_config(model: str, settings: Mapping[str, Any], **more: Any) -> Config:
    """Return the settings of one side, on the CPU."""
    overrides = {"use_gpu": False, "show_progress": False, **settings, **more}
    return Config(model, overrides.pop("dataset"), overrides=overrides)


def make_split(config: Config) -> tuple[Split, dict[str, int]]:
    """Load and split a data set; return it and its size for the report."""
    split = load_split(config)
    parts = {f"n_{name}": len(getattr(split, name)) for name in ("train", "valid", "test")}
    users, items = split.dataset.user_num - 1, split.dataset.item_num - 1
    return split, {"n_users": users, "n_items": items, **parts}


# -- training ----------------------------------------------------------------------------------


class First:
    """The first ``n`` batches of a loader, as a loader."""

    def __init__(self, loader: Any, n: int) -> None:
        self.loader, self.n = loader, min(n, len(loader))

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self.loader), self.n)


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
    """Learn from one batch; return its loss."""
    optimizer.zero_grad()
    loss = model.calculate_loss(batch)
    loss.backward()
    optimizer.step()
    return loss.detach()


# -- memory ------------------------------------------------------------------------------------


def reset_peak() -> int:
    """Forget the peak so far and return 0; where that cannot be done, return the peak."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return 0


def memory_now(field: str) -> int:
    """Return one of this process's memory counters in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


# -- timing ------------------------------------------------------------------------------------


class Times(NamedTuple):
    """Seconds of each run of one side, already scaled to what the table is about."""

    wall: list[float]
    cpu: list[float]


def alternate(
    sides: Mapping[str, Callable[[], Any]],
    repeats: int,
    scale: Mapping[str, float] | None = None,
    warm_up: bool = True,
) -> dict[str, Times]:
    """Time the sides in turn, A B A B, so that other work on the machine meets all of them.

    Args:
        sides: what to run, by name.
        repeats: runs of each.
        scale: what a side's seconds are multiplied by, where it runs only a part.
        warm_up: run each side once before, untimed.
    """
    times = {name: Times([], []) for name in sides}
    for nth in range(repeats + warm_up):
        for name, run in sides.items():
            wall, cpu = time.perf_counter(), sum(os.times()[:4])  # of finished children as well
            run()
            wall, cpu = time.perf_counter() - wall, sum(os.times()[:4]) - cpu
            if nth >= warm_up:
                factor = (scale or {}).get(name, 1.0)
                times[name].wall.append(wall * factor)
                times[name].cpu.append(cpu * factor)
    return times


# -- report ------------------------------------------------------------------------------------


class Report:
    """What one benchmark found; printed as Markdown and written to ``<output>/<name>.json``."""

    def __init__(self, name: str, arguments: argparse.Namespace, theirs: str = "RecBole") -> None:
        self.theirs = theirs
        self.path = arguments.output / f"{name}.json"
        self.content: dict[str, Any] = {
            "benchmark": name,
            "hardware": _hardware(),
            "versions": {"python": platform.python_version()}
            | {package: importlib.metadata.version(package) for package in _PACKAGES},
            "threads": arguments.threads,
            "options": {k: v for k, v in vars(arguments).items() if isinstance(v, int | list)},
            "data": {},
            "checks": {},
            "rows": [],
        }

    def data(self, label: str, size: Mapping[str, int]) -> None:
        """Note the size of a data set."""
        self.content["data"][label] = dict(size)

    def check(self, what: str, found: float, limit: float) -> None:
        """Note a difference between two answers.

        Raises:
            SystemExit: it is above the limit; nothing is timed then.
        """
        if not found <= limit:
            raise SystemExit(f"check failed, nothing is timed: {what}: {found:.3g} > {limit:.3g}")
        self.content["checks"][what] = {"found": float(found), "limit": limit}
        print(f"checked: {what}: {found:.3g} (limit {limit:g})", file=sys.stderr, flush=True)

    def compare(
        self, data: str, what: str, theirs: Times, ours: Times, target: float | None = None
    ) -> None:
        """Add a row: seconds of both sides, and the median of the ratios of neighbouring runs."""
        ratios = [a / b for a, b in zip(theirs.wall, ours.wall, strict=True)]
        self.content["rows"].append(
            {
                "data": data,
                "what": what,
                "theirs_s": summary(theirs.wall),
                "ours_s": summary(ours.wall),
                "ratio": summary(ratios),
                "cpu_ratio": statistics.median(theirs.cpu) / statistics.median(ours.cpu),
                "target_ratio": target,
            }
        )

    def add(self, **row: Any) -> None:
        """Add a row of a benchmark's own."""
        self.content["rows"].append(row)

    def finish(self, table: str | None = None) -> None:
        """Print the table and write the file."""
        self.content["hardware"]["load_average_at_end"] = os.getloadavg()[0]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        machine = self.content["hardware"]
        print(
            f"{machine['cpu']}, {machine['cores']} cores, {self.content['threads']} thread(s), "
            f"load {machine['load_average']:.1f} to {machine['load_average_at_end']:.1f}\n"
        )
        print(table or self._comparison())
        print(f"\nwritten: {self.path}")

    def _comparison(self) -> str:
        lines = []
        for row in self.content["rows"]:
            ratio, target = row["ratio"], row["target_ratio"]
            lines.append(
                [
                    row["data"],
                    row["what"],
                    show_seconds(row["theirs_s"]),
                    show_seconds(row["ours_s"]),
                    f"**{ratio['median']:.2f}** ({ratio['min']:.2f} to {ratio['max']:.2f})",
                    f"{row['cpu_ratio']:.2f}",
                    f"{target:g}" if target else "",
                ]
            )
        head = [
            "data",
            "what",
            f"{self.theirs}, s",
            "recbole-llm, s",
            "ratio",
            "CPU-time ratio",
            "target",
        ]
        return markdown(head, lines)


def markdown(head: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table."""
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *lines])


def show_seconds(seconds: Mapping[str, float]) -> str:
    """Return ``median (min to max)`` with three digits."""
    values = (seconds[key] for key in ("median", "min", "max"))
    median, least, most = (f"{v:,.0f}" if v >= 1000 else f"{v:.3g}" for v in values)
    return f"{median} ({least} to {most})"


def summary(values: list[float]) -> dict[str, Any]:
    """Return median, least and greatest, and the values."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "runs": [float(f"{value:.4g}") for value in values],
    }


def _hardware() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average": os.getloadavg()[0],
    }
