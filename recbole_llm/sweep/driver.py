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
from recbole_llm.sweep.settings import check_settings
from recbole_llm.sweep.spec import Spec, load_spec
from recbole_llm.sweep.store import open_store
from recbole_llm.sweep.study import Queue
from recbole_llm.sweep.task import Task, slug
from recbole_llm.sweep.worker import work

HEARTBEAT_S = 30
#: Settings of the command line: those that change neither a number nor the place of the records.
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
    """Tune every row of a spec on every dataset, then train each choice with every seed.

    All settings are checked before the first trial. A second call, on this machine or on another
    one with the same storage, resumes the sweep and works next to the workers that are busy.

    Args:
        spec_path: YAML file of the spec.
        profile: name of a profile of the spec; None: the spec as it stands.
        storage: ``sqlite:///file``, ``postgresql://...`` or a journal file; None: SQLite in
            ``runs/sweeps``.
        workers: number of processes on this machine.
        study_name: prefix of the studies' names; None: the spec's name and profile.
        heartbeat_s: seconds between signs of life; a worker is lost after twice as many.
        overrides: settings on which no number depends, such as ``data_path``.
        say: function that takes a line of progress; None: lines are printed.

    Returns:
        The summary: each row's choice, and how its budget was spent.

    Raises:
        ValueError: the spec, a setting or the storage is wrong.
        FileNotFoundError: the spec or a config file does not exist.
        RuntimeError: every worker died, and work is left.
    """
    spec, overrides = load_spec(spec_path, profile), dict(overrides or {})
    _check_arguments(spec_path, workers, overrides)
    check_settings(spec, overrides)
    folder = Path("runs") / "sweeps" / slug(spec.name)
    storage = storage or f"sqlite:///{folder / 'studies.db'}"
    prefix = study_name or spec.name + ("" if spec.profile == "paper" else f"@{spec.profile}")
    arguments = (str(spec_path), profile, storage, prefix, heartbeat_s, overrides)
    say = say or _print
    tasks = _tasks(spec, storage, prefix, heartbeat_s, overrides)
    say(f"{prefix}: {len(tasks)} rows on datasets; studies in {storage}")
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


def _check_arguments(spec_path: str | Path, workers: int, overrides: Mapping[str, Any]) -> None:
    for key in overrides:
        if key not in PLACE_KEYS:
            raise ValueError(
                f"--{key} would change the experiment; set it in {spec_path}. The command line "
                f"takes settings on which no number depends: {', '.join(sorted(PLACE_KEYS))}."
            )
    if workers < 1:
        raise ValueError(f"--workers must be an integer >= 1, got {workers}.")


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
    """Let SIGTERM end a worker as Ctrl-C does, which hands its trial back."""

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
    """Work as one of several processes."""
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
            f"resumes it."
        )


def _join(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.join()


def _summary(task: Task) -> str:
    """Return how one row's search and final runs went."""
    lines = [task.name]
    if task.trials is not None:
        states = [slot.trial.state for slot in task.trials.budget_slots().values()]
        counts = {state: states.count(state) for state in TrialState}
        text = ", ".join(f"{n} {state.name.lower()}" for state, n in counts.items() if n)
        best = task.trials.best()
        lines.append(f"  trials: {text}, of a budget of {task.trials.size}")
        if best is not None:
            lines.append(f"  chosen on validation: {best.value:.4f} with {best.params}")
        lines += _errors(task.trials)
    finals = task.finals()
    if finals is None:
        return "\n".join([*lines, "  no final runs: no trial finished"])
    states = [slot.trial.state for slot in finals.budget_slots().values()]
    lines.append(f"  final runs: {states.count(TrialState.COMPLETE)} of {finals.size}")
    return "\n".join([*lines, *_errors(finals)])


def _errors(queue: Queue) -> list[str]:
    """Return a line for each different error of a queue's trials."""
    done = [slot.trial for slot in queue.budget_slots().values() if slot.done]
    errors = {str(trial.user_attrs["error"]) for trial in done if "error" in trial.user_attrs}
    return [f"  error: {error}" for error in sorted(errors)]
