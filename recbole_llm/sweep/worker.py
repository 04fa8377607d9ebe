"""A worker: runs trials and final runs of all tasks of a sweep until none is left anywhere."""

import errno
import gc
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import torch
from optuna.trial import Trial, TrialState

from recbole_llm.quick_start import RunStopped
from recbole_llm.sweep.database import DATABASE_ERRORS, patiently
from recbole_llm.sweep.store import heartbeat
from recbole_llm.sweep.study import Queue
from recbole_llm.sweep.task import Task

POLL_S = 1.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


def work(tasks: Sequence[Task], say: Callable[[str], None], poll_s: float = POLL_S) -> None:
    """Work until every task is finished, by this worker or by others.

    Args:
        tasks: rows on datasets, the first one first.
        say: function that takes a line of progress.
        poll_s: seconds between two looks at the tasks that other workers are busy with.
    """
    while True:
        if any(_run_one(task, say) for task in tasks):
            continue
        if all(task.finished() for task in tasks):
            return
        time.sleep(poll_s)


def _run_one(task: Task, say: Callable[[str], None]) -> bool:
    """Run one trial or final run of a task; return whether one was waiting."""
    trial = task.claim_trial()
    if trial is not None and task.trials is not None:
        _perform(task.trials, trial, task.run_trial, say)
        return True
    trial, finals = task.claim_final(), task.finals()
    if trial is None or finals is None:
        return False
    _perform(finals, trial, task.run_final, say)
    return True


def _perform(
    queue: Queue, trial: Trial, run: Callable[[Trial], float], say: Callable[[str], None]
) -> None:
    """Run a claimed trial to its end, and write its result or failure into its study.

    Raises:
        OSError: the disk is full; the trial is handed back, because no other would end better.
        SQLAlchemyError, StorageInternalError: the database is gone; the trial counts as lost.
    """
    begin = time.monotonic()
    try:
        with heartbeat(queue.storage, trial._trial_id):
            value = run(trial)
        if math.isfinite(value):
            kept = queue.tell(trial, TrialState.COMPLETE, value)
            outcome = f"valid {value:.4f}" if kept else "too late: it was given to another"
        else:
            outcome = f"failed: the validation metric is {value}"
            queue.fail(trial, f"ValueError: the validation metric is {value}")
    except RunStopped as stop:
        reported = patiently(lambda: queue.storage.get_trial(trial._trial_id))
        queue.tell(trial, TrialState.PRUNED, _last_finite(reported.intermediate_values))
        outcome = str(stop)
    except KeyboardInterrupt:
        queue.hand_back(trial)
        raise
    except DATABASE_ERRORS:
        raise
    # Any other error is a failure of this trial alone; MemoryError and CUDA's are among them.
    except Exception as error:  # noqa: BLE001
        if isinstance(error, OSError) and error.errno in _FULL:
            with suppress(OSError, *DATABASE_ERRORS):  # else its signs of life end
                queue.hand_back(trial)
            raise
        outcome = f"failed: {type(error).__name__}: {error}"
        queue.fail(trial, f"{type(error).__name__}: {error}")
        logging.getLogger(__name__).debug("trial %d", trial.number, exc_info=True)
        del error
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    best = queue.best()
    so_far = f"best {best.value:.4f} (trial {best.number})" if best else "no best yet"
    say(
        f"[{queue.name}] {queue.n_done()}/{queue.size}  trial {trial.number}: {outcome}  "
        f"{so_far}  {time.monotonic() - begin:.1f} s"
    )


def _last_finite(values: dict[int, float]) -> float | None:
    finite = [value for _, value in sorted(values.items()) if math.isfinite(value)]
    return finite[-1] if finite else None
