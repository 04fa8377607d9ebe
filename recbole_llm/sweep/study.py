"""Studies as queues: each trial of the budget is enqueued once, claimed once, and retried if lost.

A budget of n trials is n numbered slots. A slot's trials are its first try and its retries, and a
worker claims a waiting one, so any number of workers ends with exactly n results. Optuna's own
``optimize`` starts a trial whenever it finds none waiting: it overruns by the number of workers.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from recbole_llm.sweep.space import Value
from recbole_llm.sweep.store import Store, beat, patiently

_DONE = (TrialState.COMPLETE, TrialState.PRUNED)


class Slot(NamedTuple):
    """One slot of a budget: ``trial`` is its latest, and ``tries`` counts those that were lost."""

    trial: FrozenTrial
    tries: int
    done: bool


class Queue:
    """A study whose slots are worked off by any number of workers.

    Args:
        store: where it is kept.
        name: of the study.
        digest: of what its results depend on; a study with another one is not continued.
        plan: the fixed parameters of each slot, ``{}`` where the sampler draws them.
        bigger: whether more of the objective is better.
        max_retry: how often a lost trial is run again.
        timeout_s: seconds after which no further trial is claimed, summed over all trials.
        describe: user attributes of the study.

    Raises:
        ValueError: a study of this name has other settings.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        digest: str,
        plan: Sequence[dict[str, Value]],
        bigger: bool = True,
        max_retry: int = 2,
        timeout_s: float | None = None,
        describe: dict[str, Any] | None = None,
    ) -> None:
        self.name, self.size = name, len(plan)
        self.max_retry, self.timeout_s = max_retry, timeout_s
        self.storage, self.lock = store
        directions = optuna.study.StudyDirection
        direction = directions.MAXIMIZE if bigger else directions.MINIMIZE
        with self.lock:
            self.study = patiently(
                lambda: optuna.create_study(
                    storage=self.storage,
                    study_name=name,
                    direction=direction,
                    load_if_exists=True,
                )
            )
            known = patiently(lambda: self.study.user_attrs.get("digest"))
            if known is None:
                for key, value in {**(describe or {}), "digest": digest}.items():
                    patiently(partial(self.study.set_user_attr, key, value))
            elif known != digest:
                raise ValueError(
                    f"study {name!r} was started with other settings, search space or sampler, and "
                    f"its trials would not compare. Give another --study-name, or undo the change."
                )
            missing = set(range(self.size)) - set(self.slots())
            for slot in sorted(missing):
                self._enqueue(slot, plan[slot])

    def _enqueue(self, slot: int, params: dict[str, Any]) -> None:
        patiently(lambda: self.study.enqueue_trial(params, user_attrs={"slot": slot}))

    def trials(self) -> list[FrozenTrial]:
        """Return every trial, in order of number."""
        return patiently(lambda: self.study.get_trials(deepcopy=False))

    def slots(self) -> dict[int, Slot]:
        """Return the slots of the budget by number."""
        of_slot: dict[int, list[FrozenTrial]] = {}
        for trial in self.trials():
            if "superseded" not in trial.user_attrs and "slot" in trial.user_attrs:
                of_slot.setdefault(trial.user_attrs["slot"], []).append(trial)
        slots = {}
        for number, tried in of_slot.items():
            last = next((t for t in tried if t.state in _DONE), tried[-1])
            lost = sum(
                t.state == TrialState.FAIL and not {"error", "interrupted"} & set(t.user_attrs)
                for t in tried
            )
            failed = last.state == TrialState.FAIL
            final = failed and ("error" in last.user_attrs or lost > self.max_retry)
            slots[number] = Slot(last, lost, last.state in _DONE or final)
        return slots

    def budget_slots(self) -> dict[int, Slot]:
        """Return the slots within the budget: a smaller one may have been set since."""
        return {number: slot for number, slot in self.slots().items() if number < self.size}

    def n_done(self) -> int:
        """Return how many slots of the budget have their result, a failure included."""
        return sum(slot.done for slot in self.budget_slots().values())

    def out_of_time(self) -> bool:
        """Whether the time budget is spent."""
        if self.timeout_s is None:
            return False
        spent = [t.duration.total_seconds() for t in self.trials() if t.duration is not None]
        return sum(spent) >= self.timeout_s

    def finished(self) -> bool:
        """Whether no trial is left to run, here or elsewhere."""
        open_slots = [slot for slot in self.budget_slots().values() if not slot.done]
        if open_slots and self.out_of_time():
            return all(slot.trial.state != TrialState.RUNNING for slot in open_slots)
        return not open_slots

    def heal(self) -> None:
        """Enqueue again what was lost: trials without a sign of life, or interrupted."""
        patiently(lambda: fail_stale_trials(self.study))
        lost = [n for n, s in self.budget_slots().items() if self._is_lost(s)]
        if not lost:
            return
        with self.lock:
            for number, slot in self.budget_slots().items():  # again: others heal as well
                if number in lost and self._is_lost(slot):
                    fixed = slot.trial.system_attrs.get("fixed_params", {})
                    self._enqueue(number, {**fixed, **slot.trial.params})

    def _is_lost(self, slot: Slot) -> bool:
        return slot.trial.state == TrialState.FAIL and not slot.done

    def claim(self, sampler: Callable[[int], optuna.samplers.BaseSampler]) -> Trial | None:
        """Take a waiting trial, or return None.

        Args:
            sampler: called with the slot's number; draws what the plan leaves open.
        """
        self.heal()
        if self.out_of_time():
            return None
        with self.lock:
            waiting = [t for t in self.trials() if t.state == TrialState.WAITING]
            for frozen in waiting:
                slot, trial_id = frozen.user_attrs.get("slot"), frozen._trial_id
                if slot is None or slot >= self.size:
                    continue
                beat(self.storage, trial_id)  # first, or a kill right now would leave no trace
                if not self._start(trial_id):
                    continue
                if self._is_superseded(frozen, slot):
                    self._drop(trial_id, "superseded", "another worker had taken up this slot")
                    continue
                self.study.sampler = sampler(slot)
                # Optuna keeps the study's trials from before; the sampler needs those of now.
                self.study._thread_local.cached_all_trials = None
                return patiently(partial(Trial, self.study, trial_id))
        return None

    def _start(self, trial_id: int) -> bool:
        # If the database goes away after it wrote and before it answered, the second call finds
        # the trial running, and says no: without signs of life it is then taken for lost.
        return patiently(lambda: self.storage.set_trial_state_values(trial_id, TrialState.RUNNING))

    def _is_superseded(self, frozen: FrozenTrial, slot: int) -> bool:
        live = (*_DONE, TrialState.WAITING, TrialState.RUNNING)
        return any(
            t.user_attrs.get("slot") == slot
            and t.number != frozen.number
            and (t.number < frozen.number or t.state in _DONE)
            and t.state in live
            for t in self.trials()
        )

    def _drop(self, trial_id: int, key: str, text: str) -> None:
        with suppress(UpdateFinishedTrialError):  # by another, or by this call's unanswered try
            patiently(lambda: self.storage.set_trial_user_attr(trial_id, key, text))
            patiently(lambda: self.storage.set_trial_state_values(trial_id, TrialState.FAIL))

    def tell(self, trial: Trial, state: TrialState, value: float | None = None) -> bool:
        """Finish a trial; False if it was given to another because this worker seemed dead."""
        values = None if value is None else [value]
        try:
            patiently(lambda: self.storage.set_trial_state_values(trial._trial_id, state, values))
        except UpdateFinishedTrialError:  # here too: an unanswered try of this call is no other's
            known = patiently(lambda: self.storage.get_trial(trial._trial_id))
            return known.state == state and known.values == values
        return True

    def fail(self, trial: Trial, error: str) -> None:
        """Finish a trial that raised, with its error's text."""
        self._drop(trial._trial_id, "error", error)

    def hand_back(self, trial: Trial) -> None:
        """Give up a trial that was interrupted: it is run again, and this try does not count."""
        self._drop(trial._trial_id, "interrupted", "by the user")

    def best(self) -> FrozenTrial | None:
        """Return the best finished trial, or None; of equals the first slot's."""
        done = [s.trial for _, s in sorted(self.budget_slots().items())]
        done = [t for t in done if t.state == TrialState.COMPLETE and t.value is not None]
        sign = 1 if self.study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
        return max(done, key=lambda t: sign * (t.value or 0.0), default=None)
