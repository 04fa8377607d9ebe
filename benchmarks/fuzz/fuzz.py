"""Run the fuzz tests again and again with other random numbers, for a given time.

    python benchmarks/fuzz/fuzz.py --minutes=60 --seed=1 [--examples=100] [TEST ...]

The tests are those of ``tests/fuzz``: odd and damaged tables, atomic files, YAML, settings, specs,
records, lists and journals. None may end in a traceback or lose something without a word. The
suite draws few examples of each; this draws many, a round at a time, each round with the next
seed. A failure is printed with the smallest example that shows it, which then becomes an
``@example`` or a test of its own. The exit status is 1 if there was one.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Read the command line, run rounds until the time is over, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tests", nargs="*", default=["tests/fuzz"], metavar="TEST")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=100, help="of each test in a round")
    options = parser.parse_args()
    until, failed, seed = time.monotonic() + 60 * options.minutes, 0, options.seed
    while time.monotonic() < until:
        begin = time.monotonic()
        done = run_round(options.tests, seed, options.examples)
        outcome = re.findall(r"\d+ (?:passed|failed|error)\w*", done.stdout.rpartition("\n=")[2])
        seconds = time.monotonic() - begin
        text = ", ".join(outcome) or f"exit status {done.returncode}"
        print(f"seed {seed}: {text} in {seconds:.0f} s", flush=True)
        if done.returncode:
            failed += 1
            print(done.stdout, done.stderr, sep="\n", flush=True)
        seed += 1
    print(f"{seed - options.seed} rounds of {options.examples} examples a test, {failed} failed")
    return int(failed > 0)


def run_round(tests: list[str], seed: int, n_examples: int) -> "subprocess.CompletedProcess[str]":
    """Run the tests once in a process of their own, whose temporary files are removed."""
    line = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-q", "--tb=short"]
    line += ["-o", "tmp_path_retention_policy=none", f"--hypothesis-seed={seed}", *tests]
    environment = {**os.environ, "FUZZ_EXAMPLES": str(n_examples), "OMP_NUM_THREADS": "1"}
    return subprocess.run(line, cwd=CHECKOUT, env=environment, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
