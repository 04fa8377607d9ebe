"""What a sweep costs beyond its training: 20 LightGCN trials against 20 bare runs on ml-100k.

A bare run is ``recbole_llm.run`` called 20 times in one process, which imports nothing twice: the
cheapest way to do the same by hand. The sweep samples with TPE, feeds a pruner that never prunes,
stores every trial in SQLite, and ends with one run of its choice, for which the bare side trains a
21st. Each side runs in a process of its own and a folder of its own, in turn.
"""

import subprocess
import sys
from pathlib import Path

import yaml
from common import Report, alternate, parse_arguments, scratch

from recbole_llm import run

N_TRIALS = 20
LIMIT = 1.1  # the sweep's seconds over the bare runs'


def settings(epochs: int) -> dict[str, object]:
    return {
        "epochs": epochs,
        "train_batch_size": 8192,
        "torch_threads": 1,
        "show_progress": False,
        "state": "WARNING",
    }


def bare(n_runs: int, epochs: int) -> None:
    for nth in range(n_runs):
        run("LightGCN", "ml-100k", **settings(epochs), learning_rate=1e-3 * (nth + 1))


def spec(n_trials: int, epochs: int) -> dict[str, object]:
    fixed = {k: v for k, v in settings(epochs).items() if k in ("epochs", "train_batch_size")}
    return {
        "name": "overhead",
        "datasets": ["ml-100k"],
        "seeds": [2020],
        "settings": fixed,
        "search": {
            "sampler": "tpe",
            "seed": 1,
            "pruner": "median",
            "n_trials": n_trials,
            "startup_trials": n_trials,
        },
        "rows": [{"model": "LightGCN", "space": {"learning_rate": {"float": [1e-3, 2e-2]}}}],
    }


def main() -> None:
    if sys.argv[1:2] == ["--bare"]:
        bare(*map(int, sys.argv[2:]))
        return
    arguments = parse_arguments(__doc__, repeats=2, epochs=5, trials=N_TRIALS)
    report = Report("sweep", arguments, theirs="bare")
    script = Path(sys.executable).with_name("recbole_llm")
    options = ["--torch_threads=1", "--show_progress=false", "--state=WARNING"]
    nth = 0
    with scratch() as folder:

        def start(command: list[str]) -> None:
            nonlocal nth
            nth += 1
            place = folder / str(nth)
            place.mkdir()
            (place / "spec.yaml").write_text(
                yaml.safe_dump(spec(arguments.trials, arguments.epochs))
            )
            subprocess.run(command, cwd=place, check=True, capture_output=True)

        n_runs = str(arguments.trials + 1)
        times = alternate(
            {
                "theirs": lambda: start(
                    [sys.executable, __file__, "--bare", n_runs, str(arguments.epochs)]
                ),
                "ours": lambda: start([str(script), "sweep", "spec.yaml", *options]),
            },
            arguments.repeats,
            warm_up=False,
        )
    what = f"{arguments.trials} LightGCN trials of {arguments.epochs} epochs and one final run"
    report.compare("ml-100k", what, times["theirs"], times["ours"], target=1 / LIMIT)
    report.finish()


if __name__ == "__main__":
    main()
