"""``recbole_llm sweep``: opens the studies of a spec, starts workers, and sums up."""

import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_llm.secrets import mask_secrets
from recbole_llm.sweep.database import database_errors
from recbole_llm.sweep.plots import plot_study
from recbole_llm.sweep.processes import interruptible, run_processes, stop_with_parent
from recbole_llm.sweep.settings import check_settings
from recbole_llm.sweep.spec import Spec, load_spec
from recbole_llm.sweep.store import open_store
from recbole_llm.sweep.summary import Summary, summarize
from recbole_llm.sweep.task import Task, slug
from recbole_llm.sweep.worker import work

HEARTBEAT_S = 30
#: Settings of the command line: those that change neither a number nor the place of the records.
PLACE_KEYS = frozenset(
    "cache_dir checkpoint_s data_path device gpu_id show_progress state torch_threads "
    "use_gpu".split()
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
) -> Summary:
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
        Each row's choice, how its budget was spent, and whether every row has its final runs.

    Raises:
        ValueError: the spec, a setting or the storage is wrong; or the storage has a study of
            this name with other settings or data.
        FileNotFoundError: the spec, a config file or a dataset does not exist.
        OSError: the storage cannot be opened, read or written.
        RuntimeError: every worker died, and work is left.
    """
    spec, overrides = load_spec(spec_path, profile), dict(overrides or {})
    _check_arguments(spec_path, workers, overrides)
    check_settings(spec, overrides)
    folder = Path("runs") / "sweeps" / slug(spec.name)
    storage = storage or f"sqlite:///{folder / 'studies.db'}"
    prefix = study_name or spec.name + ("" if spec.profile == "paper" else f"@{spec.profile}")
    arguments = (str(spec_path), profile, storage, prefix, heartbeat_s, overrides)
    say = _masked(say or _print)
    with database_errors(storage):
        tasks = _tasks(spec, storage, prefix, heartbeat_s, overrides)
        _announce(tasks, f"{prefix}: {len(tasks)} rows on datasets; studies in {storage}", say)
        if workers == 1:
            interruptible(lambda: work(tasks, say))
        else:
            _run_workers(workers, arguments, lambda: all(task.finished() for task in tasks))
        for task in tasks:
            if task.trials is not None:
                plot_study(task.trials.study, folder / "plots" / slug(task.name))
        return summarize(tasks)


def _announce(tasks: Sequence[Task], begin: str, say: Callable[[str], None]) -> None:
    say(begin)
    for task in tasks:
        if task.trials is not None:
            n_done = task.trials.n_done()
            say(f"[{task.name}] {task.trials.size} trials, {n_done} of them done before")


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


def _masked(say: Callable[[str], None]) -> Callable[[str], None]:
    """Return a function that takes a line of progress and passes it on without secrets."""
    return lambda line: say(mask_secrets(line))


def _print(line: str) -> None:
    print(line, flush=True)


def _worker(
    spec_path: str,
    profile: str | None,
    storage: str,
    prefix: str,
    heartbeat_s: int,
    overrides: dict[str, Any],
) -> None:
    """Work as one of several processes, as long as the one that started them is alive."""
    stop_with_parent()
    try:
        with database_errors(storage):
            tasks = _tasks(load_spec(spec_path, profile), storage, prefix, heartbeat_s, overrides)
            interruptible(lambda: work(tasks, _masked(_print)))
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError, ImportError) as error:
        print(mask_secrets(f"error of a worker: {error}"), file=sys.stderr)
        sys.exit(2)
    except Exception:  # noqa: BLE001 - Python would print it as it is
        print(mask_secrets(traceback.format_exc()), file=sys.stderr)
        sys.exit(1)


def _run_workers(n: int, arguments: tuple[Any, ...], finished: Callable[[], bool]) -> None:
    """Start workers and wait for them; the work of one that dies is taken over by the others."""
    *rest, overrides = arguments
    threads = max(1, (os.cpu_count() or 1) // n)
    codes = run_processes(n, _worker, (*rest, {"torch_threads": threads, **overrides}))
    if not finished():
        raise RuntimeError(
            f"all {n} workers ended (exit codes {codes}) before the sweep did. The same command "
            f"resumes it."
        )
