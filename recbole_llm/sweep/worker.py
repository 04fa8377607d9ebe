"""A worker: claims trials and final runs of every study of a sweep until none is left anywhere."""

import gc
import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import Trial, TrialState

from recbole_llm import quick_start
from recbole_llm.config import Config
from recbole_llm.quick_start import Hooks, RunStopped
from recbole_llm.record import RunRecord
from recbole_llm.sweep.sampler import build_pruner, build_sampler, plan
from recbole_llm.sweep.space import suggest
from recbole_llm.sweep.spec import Row, Search, Spec
from recbole_llm.sweep.store import Store, heartbeat, patiently
from recbole_llm.sweep.study import Queue

POLL_S = 1.0

# Of runs inside a sweep, under what the spec or the command line says: they are quiet, and keep
# what a report needs for significance tests.
QUIET = {"show_progress": False, "state": "WARNING"}


class Task:
    """One row on one data set: its search, if it has one, then its runs with every seed."""

    def __init__(
        self,
        spec: Spec,
        row: Row,
        dataset: str,
        store: Store,
        prefix: str,
        overrides: dict[str, Any],
    ) -> None:
        self.spec, self.row, self.dataset, self.store = spec, row, dataset, store
        self.overrides = overrides
        self.name = f"{prefix}/{dataset}/{row.label}"
        self.search = spec.search if spec.search and row.space else None
        self.config = self._check()
        self.trials = self._open_search() if self.search else None
        self._finals: Queue | None = None

    def _check(self) -> Config:
        """Resolve the settings once, for an error in them to show before any trial runs."""
        config_files, settings = self._settings(dict(self.spec.grid[0]))
        config = Config(self.row.model, self.dataset, config_files, settings)
        known = set(config.final_config_dict)
        for parameter in self.row.space:
            if parameter.name.partition(".")[0] not in known:
                raise ValueError(
                    f"space.{parameter.name}: no such key of model {self.row.model}; "
                    f"its keys are in properties/model/ and properties/overall.yaml."
                )
        return config

    def _settings(self, over: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
        settings = {**QUIET, **self.spec.settings_of(self.row), **over, **self.overrides}
        files = settings.pop("config_files", [])
        return files.split() if isinstance(files, str) else list(files), settings

    def _open_search(self) -> Queue:
        search = self.search
        assert search is not None
        points = plan(search, self.row.space, self.row.n_trials or search.n_trials)
        queue = Queue(
            self.store,
            self.name,
            self.spec.digest(self.row, self.dataset),
            points,
            bool(self.config["valid_metric_bigger"]),
            search.max_retry,
            search.timeout_s,
            {"metric": self.spec.metric, "sampler": search.sampler, "spec": self.spec.name},
        )
        queue.study.pruner = build_pruner(search, self.config["epochs"])
        return queue

    @property
    def budget(self) -> dict[str, Any]:
        """What the row's tuning was allowed, for the record and the table."""
        if self.search is None or self.trials is None:
            return {"n_trials": 0}
        return {
            "n_trials": self.trials.size,
            "sampler": self.search.sampler,
            "sampler_seed": self.search.seed,
            "pruner": self.search.pruner,
            "timeout_s": self.search.timeout_s,
            "optuna": optuna.__version__,
        }

    def finals(self) -> Queue | None:
        """Return the queue of final runs, once the search is over; None before, or if it failed."""
        if self._finals is None and (self.trials is None or self.trials.finished()):
            jobs = [{"seed": s, **point} for point in self.spec.grid for s in self.spec.seeds]
            chosen = self.chosen()
            if chosen is not None:
                # A larger budget may choose anew: then that is another study.
                tag = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]
                digest = self.spec.digest(self.row, self.dataset)
                self._finals = Queue(self.store, f"{self.name} (final {tag})", digest, jobs)
        return self._finals

    def chosen(self) -> dict[str, Any] | None:
        """Return the settings that validation chose, {} without a search, None if all failed."""
        if self.trials is None:
            return {}
        best = self.trials.best()
        return None if best is None else dict(best.params)

    def finished(self) -> bool:
        """Whether nothing is left to run."""
        if self.trials is not None and not self.trials.finished():
            return False
        finals = self.finals()
        return finals is None or finals.finished()

    def work(self, say: Callable[[str], None]) -> bool:
        """Run one trial or final run; return whether there was one to claim."""
        if self.trials is not None:
            search = self.search or Search()
            trial = self.trials.claim(lambda slot: build_sampler(search, slot))
            if trial is not None:
                self._perform(self.trials, trial, self._trial, say)
                return True
        finals = self.finals()
        if finals is None:
            return False
        trial = finals.claim(lambda slot: optuna.samplers.RandomSampler(seed=slot))
        if trial is None:
            return False
        self._perform(finals, trial, self._final, say)
        return True

    # -- one trial -----------------------------------------------------------------------------

    def _perform(
        self,
        queue: Queue,
        trial: Trial,
        run: Callable[[Queue, Trial], float],
        say: Callable[[str], None],
    ) -> None:
        """Run a claimed trial to its end, whatever that is, and tell its study."""
        begin = time.monotonic()
        try:
            with heartbeat(queue.storage, trial._trial_id):
                value = run(queue, trial)
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
        # Anything else is this trial's own failure; MemoryError and CUDA's are among them.
        except Exception as error:  # noqa: BLE001
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

    def _trial(self, queue: Queue, trial: Trial) -> float:
        """Train with drawn settings; return the best validation metric. Test is not seen."""
        drawn = patiently(lambda: suggest(self.row.space, trial))

        def on_validation(epoch: int, score: float) -> None:
            patiently(lambda: trial.report(score, epoch))
            if patiently(trial.should_prune):
                raise RunStopped(f"pruned after epoch {epoch} at {score:.4f}")

        checkpoints = Path("saved") / "sweeps" / slug(f"{self.name}-{trial.number}")
        over: dict[str, Any] = {
            "seed": self.spec.seeds[0],
            "runs_dir": str(Path("runs") / "sweeps" / slug(self.spec.name)),
            "checkpoint_dir": str(checkpoints),
            **drawn,
        }
        hooks = Hooks(on_validation, evaluate_test=False)
        try:
            record = self._run(over, trial, "trial", drawn, hooks)
        finally:  # the choice is trained again; a trial's weights would only fill the disk
            shutil.rmtree(checkpoints, ignore_errors=True)
        return record.metrics["valid"][self.spec.metric.lower()]

    def _final(self, queue: Queue, trial: Trial) -> float:
        """Train the chosen settings with one seed, and score test once."""
        frozen = patiently(lambda: queue.storage.get_trial(trial._trial_id))
        job = dict(frozen.system_attrs["fixed_params"])
        seed = job.pop("seed")
        over = {"seed": seed, "save_topk": 50, **(self.chosen() or {}), **job}
        hooks = Hooks(evaluate_test=self.spec.measures_test)
        record = self._run(over, trial, "final", job, hooks)
        return record.metrics["valid"][self.spec.metric.lower()]

    def _run(
        self, over: dict[str, Any], trial: Trial, kind: str, point: dict[str, Any], hooks: Hooks
    ) -> RunRecord:
        config_files, settings = self._settings(over)
        origin = {
            "sweep": self.spec.name,
            "profile": self.spec.profile,
            "row": self.row.label,
            "kind": kind,
            "point": point,
            "study": self.name,
            "trial": trial.number,
            "budget": self.budget,
        }
        record = quick_start.run(
            self.row.model,
            self.dataset,
            config_files=config_files,
            hooks=hooks._replace(origin=origin),
            **settings,
        )
        patiently(lambda: trial.set_user_attr("record", record.folder))
        return record


def work(tasks: Sequence[Task], say: Callable[[str], None], poll_s: float = POLL_S) -> None:
    """Work until every task is finished, here or by others; lost trials are taken over."""
    while True:
        if any(task.work(say) for task in tasks):
            continue
        if all(task.finished() for task in tasks):
            return
        time.sleep(poll_s)


def _last_finite(values: dict[int, float]) -> float | None:
    finite = [value for _, value in sorted(values.items()) if math.isfinite(value)]
    return finite[-1] if finite else None


def slug(name: str) -> str:
    """Return a name as a file may have it."""
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in name)
