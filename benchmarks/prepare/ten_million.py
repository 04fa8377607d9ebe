"""How long, and in how much memory, does `recbole_llm prepare` read ten million reviews?

Writes a gzip of lines like those of Amazon 2014 (skewed degrees), compares the command with plain
pandas on a smaller sample, runs it in a process of its own, and prints seconds and peak memory;
then those of `recbole_llm split` and `recbole_llm inspect` on what it made.
Needs about 3 GB of disk: python benchmarks/prepare/ten_million.py
"""

import argparse
import gzip
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

CATEGORY = "Electronics"
REVIEWS, METADATA = f"reviews_{CATEGORY}_5.json.gz", f"meta_{CATEGORY}.json.gz"
COMMAND = "import sys; from recbole_llm.cli.main import main; sys.exit(main())"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reviews", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=2_000_000)
    parser.add_argument("--items", type=int, default=400_000)
    parser.add_argument("--sample", type=int, default=1_000_000, help="compared with pandas")
    parser.add_argument("--k_core", type=int, nargs="+", default=[5, 0])
    parser.add_argument("--folder", type=Path, help="for the files; default: a temporary one")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    try:
        run(arguments, folder)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)


def run(arguments: argparse.Namespace, folder: Path) -> None:
    size = (arguments.reviews, arguments.users, arguments.items)
    started = time.perf_counter()
    whole = write_raw(folder / "raw", *size)
    sample = folder / "sample"
    write_raw(sample / "raw", *(count * arguments.sample // arguments.reviews for count in size))
    print(f"generated in {time.perf_counter() - started:.0f} s: {whole / 1e6:,.0f} MB of gzip")
    for k_core in arguments.k_core:
        compare(sample, k_core)
        print(f"k_core={k_core}: {arguments.sample:,} reviews of the same kind agree with pandas")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores\n")
    print("| command | interactions | wall, s | CPU, s | peak MiB | load average |")
    print("|---|---|---|---|---|---|")
    for k_core in arguments.k_core:
        show(f"prepare, {k_core}-core", arguments.reviews, *prepared(folder, k_core))
        kept = json.loads((folder / "data/electronics/manifest.json").read_text())["steps"]["kept"]
        print(f"| (kept) | {kept:,} | | | | |")
    place = ["--dataset=electronics", f"--data_path={folder / 'data'}"]
    show("split, global_time", kept, "split", *place, "--protocol=global_time")
    show("inspect", kept, "inspect", *place, f"--output={folder / 'inspect'}")


def show(what: str, count: int, *words: str) -> None:
    """Run one command of recbole_llm and print its row."""
    load = os.getloadavg()[0]
    cost = measure(words)
    print(
        f"| {what} | {count:,} | {cost['wall_s']:.0f} | {cost['cpu_s']:.0f} | "
        f"{cost['peak_mib']:,.0f} | {load:.1f} |",
        flush=True,
    )


def write_raw(folder: Path, n: int, n_users: int, n_items: int) -> int:
    """Write reviews and metadata; return the bytes of the reviews.

    Users and items are drawn by a power law of their rank, as in shops.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / REVIEWS
    if path.exists():
        return path.stat().st_size
    rng = np.random.default_rng(2020)
    words = ["".join(map(chr, rng.integers(97, 123, rng.integers(2, 9)))) for _ in range(5_000)]
    prose = " ".join(words[place] for place in rng.integers(0, 5_000, 400_000))
    part = path.with_suffix(".tmp")
    with gzip.open(part, "wt", compresslevel=3) as file:
        for start in range(0, n, 100_000):
            columns = [
                draw(rng, n_users, 0.5),
                draw(rng, n_items, 0.7),
                rng.integers(1, 6, 100_000),
                rng.integers(10_000, 16_000, 100_000),
                rng.integers(0, 2_000_000, 100_000),
                rng.integers(20, 500, 100_000),
            ]
            count = min(100_000, n - start)
            file.writelines(
                f'{{"reviewerID": "A{u:013X}", "asin": "B{i:09X}", "reviewerName": "N. {u}", '
                f'"helpful": [0, 0], "reviewText": "{prose[at : at + length]}", "overall": {r}.0, '
                f'"summary": "Good", "unixReviewTime": {d * 86400}, '
                f'"reviewTime": "01 1, 2014"}}\n'
                for u, i, r, d, at, length in zip(
                    *(column[:count].tolist() for column in columns), strict=True
                )
            )
    with gzip.open(folder / METADATA, "wt", compresslevel=3) as file:
        file.writelines(
            f"{{'asin': 'B{i:09X}', 'title': 'Thing {i}', 'description': '{prose[i : i + 300]}', "
            f"'categories': [['Electronics', 'Part {i % 97}']], 'price': {i % 90}.99}}\n"
            for i in range(n_items)
        )
    part.rename(path)
    return path.stat().st_size


def draw(rng: np.random.Generator, n_ids: int, exponent: float) -> np.ndarray:
    """Return 100,000 ids with probability in proportion to rank ** -exponent, by inversion."""
    rank = rng.random(100_000) ** (1 / (1 - exponent)) * n_ids
    return (rank.astype(np.int64) * 2_654_435_761) % n_ids  # popular ones are not neighbours


def prepared(folder: Path, k_core: int) -> list[str]:
    """Return the words of the command that prepares ``folder / "raw"``."""
    words = ["prepare", "amazon2014", f"--category={CATEGORY}", f"--raw_dir={folder / 'raw'}"]
    words += [f"--data_path={folder / 'data'}", f"--k_core={k_core}"]
    return [*words, "--duplicates=first", "--overwrite"]


def measure(words: Sequence[str]) -> dict[str, float]:
    """Run a command of recbole_llm; return wall and CPU seconds and its peak resident memory."""
    started = time.perf_counter()
    process = psutil.Popen([sys.executable, "-c", COMMAND, *words], stdout=subprocess.DEVNULL)
    peak, cpu = 0, 0.0

    def watch() -> None:
        nonlocal peak, cpu
        while True:
            try:
                peak = max(peak, process.memory_info().rss)
                cpu = sum(process.cpu_times()[:2])
            except psutil.Error:
                return
            time.sleep(0.05)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    if process.wait():
        raise SystemExit("the command failed")
    wall_s = time.perf_counter() - started
    watcher.join(1)
    return {"wall_s": wall_s, "cpu_s": cpu, "peak_mib": peak / 2**20}


def compare(folder: Path, k_core: int) -> None:
    """Stop unless the command's interactions are those of plain pandas."""
    measure(prepared(folder, k_core))
    found = pd.read_csv(folder / "data" / "electronics" / "electronics.inter", sep="\t")
    columns = ["reviewerID", "asin", "overall", "unixReviewTime"]
    with gzip.open(folder / "raw" / REVIEWS, "rt") as file:
        lines = map(json.loads, file)
        frame = pd.DataFrame([[line[name] for name in columns] for line in lines], columns=columns)
    frame = frame.sort_values("unixReviewTime", kind="stable").drop_duplicates(columns[:2])
    size = None
    while k_core > 1 and size != len(frame):
        size = len(frame)
        counts = [frame[name].map(frame[name].value_counts()) for name in columns[:2]]
        frame = frame[(counts[0] >= k_core) & (counts[1] >= k_core)]
    found.columns = columns
    order = ["reviewerID", "unixReviewTime", "asin", "overall"]
    found, frame = (it.sort_values(order).reset_index(drop=True) for it in (found, frame))
    pd.testing.assert_frame_equal(found, frame, check_dtype=False)


if __name__ == "__main__":
    main()
