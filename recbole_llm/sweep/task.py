"""One row of a spec on one dataset: its search, its final runs, and what each run is made of."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import Trial

from recbole_llm import quick_start
from recbole_llm.quick_start import Hooks, RunStopped
from recbole_llm.record import RunRecord
from recbole_llm.sweep.database import patiently
from recbole_llm.sweep.fingerprint import study_identity
from recbole_llm.sweep.sampler import build_pruner, build_sampler, plan
from recbole_llm.sweep.settings import resolve_settings, run_settings
from recbole_llm.sweep.space import draw
from recbole_llm.sweep.spec import Row, Spec
from recbole_llm.sweep.store import Store
from recbole_llm.sweep.study import Queue


class Task:
    """One row on one dataset: its search, if it has one, then its runs with every seed.

    Args:
        spec: experiment.
        row: line of the spec.
        dataset: name of a dataset of the spec.
        store: storage of the studies.
        prefix: first part of the studies' names.
        overrides: settings of the command line, over everything else.

    Raises:
        ValueError: a setting is wrong, or a study of this name has other settings or data.
        FileNotFoundError: the dataset has no interaction file.
    """

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
        self.overrides, self.metric = overrides, spec.metric_of(row)
        self.name = f"{prefix}/{dataset}/{row.label}"
        self.search = spec.search if row.space else None
        self.identity = study_identity(spec, row, dataset, overrides)
        self.trials = self._open_search() if self.search else None
        self._finals: Queue | None = None

    def _open_search(self) -> Queue:
        search = self.search
        assert search is not None
        config = resolve_settings(self.spec, self.row, self.dataset, {}, self.overrides)
        points = plan(search, self.row.space, self.row.n_trials or search.n_trials)
        queue = Queue(
            self.store,
            self.name,
            self.identity,
            points,
            bool(config["valid_metric_bigger"]),
            search.max_retry,
            search.timeout_s,
            {"metric": self.metric, "sampler": search.sampler, "spec": self.spec.name},
        )
        queue.study.pruner = build_pruner(search, config["epochs"])
        return queue

    @property
    def budget(self) -> dict[str, Any]:
        """The budget of the row's search, for the record and the table."""
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
        """Return the queue of final runs; None before the search is over, or if it failed."""
        if self._finals is None and (self.trials is None or self.trials.finished()):
            jobs = [{"seed": s, **point} for point in self.spec.grid for s in self.spec.seeds]
            chosen = self.chosen()
            if chosen is not None:
                # A larger budget may choose other settings, whose runs are another study.
                tag = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]
                name = f"{self.name} (final {tag})"
                self._finals = Queue(self.store, name, self.identity, jobs)
        return self._finals

    def chosen(self) -> dict[str, Any] | None:
        """Return the settings that validation chose, {} without a search, None if all failed."""
        if self.trials is None:
            return {}
        best = self.trials.best()
        return None if best is None else dict(best.params)

    def finished(self) -> bool:
        """Whether no trial and no final run is left."""
        if self.trials is not None and not self.trials.finished():
            return False
        finals = self.finals()
        return finals is None or finals.finished()

    def claim_trial(self) -> Trial | None:
        """Take a waiting trial of the search, or return None."""
        if self.search is None or self.trials is None:
            return None
        search = self.search
        return self.trials.claim(lambda slot: build_sampler(search, slot))

    def claim_final(self) -> Trial | None:
        """Take a waiting final run, or return None."""
        finals = self.finals()
        if finals is None:
            return None
        return finals.claim(lambda slot: optuna.samplers.RandomSampler(seed=slot))

    def run_trial(self, trial: Trial) -> float:
        """Train with drawn settings; return the best validation metric. Test is not read.

        Raises:
            RunStopped: the pruner stopped the run.
        """
        drawn = patiently(lambda: draw(self.row.space, trial))

        def on_validation(epoch: int, score: float) -> None:
            patiently(lambda: trial.report(score, epoch))
            if patiently(trial.should_prune):
                raise RunStopped(f"pruned after epoch {epoch} at {score:.4f}")

        checkpoints = Path("saved") / "sweeps" / slug(f"{self.name}-{trial.number}")
        point: dict[str, Any] = {
            "seed": self.spec.seeds[0],
            "runs_dir": str(Path("runs") / "sweeps" / slug(self.spec.name)),
            "checkpoint_dir": str(checkpoints),
            **drawn,
        }
        hooks = Hooks(on_validation, evaluate_test=False)
        try:
            record = self._run(point, trial, "trial", drawn, hooks)
        finally:  # the choice is trained again; a trial's weights would only fill the disk
            shutil.rmtree(checkpoints, ignore_errors=True)
        return record.metrics["valid"][self.metric.lower()]

    def run_final(self, trial: Trial) -> float:
        """Train the chosen settings with one seed, score test once, return validation's metric."""
        frozen = patiently(lambda: self.store.storage.get_trial(trial._trial_id))
        job = dict(frozen.system_attrs["fixed_params"])
        seed = job.pop("seed")
        point = {"seed": seed, "save_topk": 50, **(self.chosen() or {}), **job}
        hooks = Hooks(evaluate_test=self.spec.measures_test)
        record = self._run(point, trial, "final", job, hooks)
        return record.metrics["valid"][self.metric.lower()]

    def _run(
        self, over: dict[str, Any], trial: Trial, kind: str, point: dict[str, Any], hooks: Hooks
    ) -> RunRecord:
        config_files, settings = run_settings(self.spec, self.row, over, self.overrides)
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


def slug(name: str) -> str:
    """Return a name whose characters are allowed in the name of a file."""
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in name)
