"""``recbole_llm sweep``: opens the studies of a spec, starts workers, and sums up."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from recbole_llm.sweep.plots import plot_study
from recbole_llm.sweep.spec import Spec, load_spec
from recbole_llm.sweep.store import open_store
from recbole_llm.sweep.worker import Task, slug, work

HEARTBEAT_S = 30
#: What the command line may set: no number depends on it, nor where the sweep finds its runs.
PLACE_KEYS = frozenset(
    "cache_dir checkpoint_s data_path gpu_id show_progress state torch_threads use_gpu".split()
)


def sweep_spec(
    spec_path: str | Path,
    profile: str | None = None,
    storage: str | None = None,
    workers: int = 1,
    study_name: str | None = None,
    heartbeat_s: int = HEARTBEAT_S,
    overrides: Mapping[str, Any] | None = None,
    say: Callable[[str], None] | None = None,
) -> str:
    """Tune every row of a spec on every data set, then train each choice with every seed.

    Called again, here or on other machines with the same storage, it goes on where it was and
    works beside those already at it.

    Args:
        spec_path: the spec's YAML file.
        profile: of the spec.
        storage: ``sqlite:///file``, ``postgresql://...`` or a journal file; None: SQLite in
            ``runs/sweeps``.
        workers: processes on this machine.
        study_name: prefix of the studies' names; None: the spec's name and profile.
        heartbeat_s: seconds between signs of life; a worker is taken for dead after twice as many.
        overrides: settings on which no number depends, such as ``data_path``.
        say: takes the lines of progress; None: prints them.

    Returns:
        The summary: each row's choice, and how its budget went.

    Raises:
        ValueError: the spec, a setting or the storage does not fit.
        FileNotFoundError: there is no such spec.
        RuntimeError: every worker died, and work is left.
    """
    spec = load_spec(spec_path, profile)
    overrides = dict(overrides or {})
    for key in overrides:
        if key not in PLACE_KEYS:
            raise ValueError(
                f"--{key} would change the experiment; set it in {spec_path}. The command line "
                f"takes what no number depends on: {', '.join(sorted(PLACE_KEYS))}."
            )
    if workers < 1:
        raise ValueError(f"--workers must be an integer >= 1, got {workers}.")
    folder = Path("runs") / "sweeps" / slug(spec.name)
    storage = storage or f"sqlite:///{folder / 'studies.db'}"
    prefix = study_name or spec.name + ("" if spec.profile == "paper" else f"@{spec.profile}")
    arguments = (str(spec_path), profile, storage, prefix, heartbeat_s, overrides)
    say = say or _print
    tasks = _tasks(spec, storage, prefix, heartbeat_s, overrides)
    say(f"{prefix}: {len(tasks)} rows on data sets; studies in {storage}")
    for task in tasks:
        if task.trials is not None:
            n_done = task.trials.n_done()
            say(f"[{task.name}] {task.trials.size} trials, {n_done} of them done before")
    if workers == 1:
        _interruptible(lambda: work(tasks, say))
    else:
        _run_processes(workers, arguments, lambda: all(task.finished() for task in tasks))
    for task in tasks:
        if task.trials is not None:
            plot_study(task.trials.study, folder / "plots" / slug(task.name))
    return "\n".join(_summary(task) for task in tasks)


def _tasks(
    spec: Spec, storage: str, prefix: str, heartbeat_s: int, overrides: dict[str, Any]
) -> list[Task]:
    store = open_store(storage, heartbeat_s)
    return [
        Task(spec, row, dataset, store, prefix, overrides)
        for dataset in spec.datasets
        for row in spec.rows
    ]


def _print(line: str) -> None:
    print(line, flush=True)


def _interruptible(call: Callable[[], None]) -> None:
    """Let SIGTERM end a worker as Ctrl-C does: its trial is handed back."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        call()
    finally:
        signal.signal(signal.SIGTERM, before)


def _worker(
    spec_path: str,
    profile: str | None,
    storage: str,
    prefix: str,
    heartbeat_s: int,
    overrides: dict[str, Any],
) -> None:
    """Be one of several processes."""
    tasks = _tasks(load_spec(spec_path, profile), storage, prefix, heartbeat_s, overrides)
    try:
        _interruptible(lambda: work(tasks, _print))
    except KeyboardInterrupt:
        sys.exit(130)


def _run_processes(n: int, arguments: tuple[Any, ...], finished: Callable[[], bool]) -> None:
    """Start workers and wait for them; the work of one that dies is taken over by the others."""
    *rest, overrides = arguments
    threads = max(1, (os.cpu_count() or 1) // n)
    arguments = (*rest, {"torch_threads": threads, **overrides})
    context = multiprocessing.get_context("spawn")  # torch and CUDA do not survive a fork
    processes = [context.Process(target=_worker, args=arguments) for _ in range(n)]
    for process in processes:
        process.start()
    try:
        _interruptible(lambda: _join(processes))
    except KeyboardInterrupt:
        for process in processes:
            if process.is_alive():
                process.terminate()
        _join(processes)
        raise
    if not finished():
        codes = [process.exitcode for process in processes]
        raise RuntimeError(
            f"all {n} workers ended (exit codes {codes}) before the sweep did. The same command "
            f"goes on with it."
        )


def _join(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.join()


def _summary(task: Task) -> str:
    """Return how one row's search and final runs went."""
    lines = [task.name]
    if task.trials is not None:
        slots = task.trials.budget_slots().values()
        counts = {state: sum(s.trial.state == state for s in slots) for state in TrialState}
        text = ", ".join(f"{n} {state.name.lower()}" for state, n in counts.items() if n)
        best = task.trials.best()
        lines.append(f"  trials: {text}, of a budget of {task.trials.size}")
        if best is not None:
            lines.append(f"  chosen on validation: {best.value:.4f} with {best.params}")
        errors = {s.trial.user_attrs.get("error") for s in slots if s.done} - {None}
        lines += [f"  error: {error}" for error in sorted(map(str, errors))]
    finals = task.finals()
    if finals is None:
        lines.append("  no final runs: no trial finished")
    else:
        slots = finals.budget_slots().values()
        good = sum(slot.trial.state == TrialState.COMPLETE for slot in slots)
        lines.append(f"  final runs: {good} of {finals.size}")
        errors = {s.trial.user_attrs.get("error") for s in slots if s.done} - {None}
        lines += [f"  error: {error}" for error in sorted(map(str, errors))]
    return "\n".join(lines)
