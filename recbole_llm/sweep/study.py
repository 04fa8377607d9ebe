"""Studies as queues: each trial of the budget is enqueued once, claimed once, and retried if lost.

A budget of n trials is n numbered slots. The trials of a slot are its first run and its retries,
and a worker claims a waiting one, so that any number of workers ends with exactly n results.
Optuna's own ``optimize`` starts a trial whenever it finds none waiting: it exceeds the budget by
the number of workers.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from recbole_llm.secrets import mask_secrets, mask_values
from recbole_llm.sweep.database import patiently
from recbole_llm.sweep.identity import Identity, differences
from recbole_llm.sweep.space import Value
from recbole_llm.sweep.store import Store, beat

_DONE = (TrialState.COMPLETE, TrialState.PRUNED)


class Slot(NamedTuple):
    """One slot of a budget.

    Attributes:
        trial: trial that holds the slot's result, or else its latest.
        done: whether the slot has its result, a failure included.
    """

    trial: FrozenTrial
    done: bool


class Queue:
    """A study whose slots are run by any number of workers.

    Args:
        store: storage of the study.
        name: name of the study.
        identity: all that the results depend on; a study with another one is not resumed.
        plan: fixed parameters of each slot, ``{}`` where the sampler draws them.
        bigger: whether a larger objective is better.
        max_retry: number of times that a lost trial is run again.
        timeout_s: seconds after which no further trial is claimed, summed over all trials.
        describe: user attributes of the study.

    Raises:
        ValueError: a study of this name has other settings or data; the message says which.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        identity: Identity,
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
            self._identify(identity, describe or {})
            self.numbers, missing = self._slot_numbers(plan)
            for number, params in missing.items():
                self._enqueue(number, params)

    def _identify(self, identity: Identity, describe: dict[str, Any]) -> None:
        """Compare the identity with that of the study's first start, or store it."""
        identity = mask_values(identity)
        attributes = patiently(lambda: self.study.user_attrs)
        advice = "Give another --study-name to begin anew"
        if "identity" in attributes:
            changed = differences(attributes["identity"], identity)
            if changed:
                raise ValueError(
                    f"study {self.name!r} was started with other {changed}, and its trials would "
                    f"not compare. {advice}, or undo the change."
                )
        elif "digest" in attributes:
            raise ValueError(
                f"study {self.name!r} was started by an earlier release, which did not store its "
                f"settings and data, so nothing shows that they are the same. {advice}."
            )
        else:
            for key, value in {**describe, "identity": identity}.items():
                patiently(partial(self.study.set_user_attr, key, value))

    def _slot_numbers(self, plan: Sequence[dict[str, Value]]) -> tuple[set[int], dict[int, Any]]:
        """Return the slots of the plan's points, and the points whose slots are new, by number.

        A point has the slot that was planned with the same parameters, whatever its place in the
        plan was: seeds or points of a grid may be added anywhere. Points that a sampler draws have
        their place as their number.
        """
        planned: dict[int, str] = {}
        for trial in self.trials():
            if "slot" in trial.user_attrs:
                params = trial.system_attrs.get("fixed_params", {})
                planned.setdefault(trial.user_attrs["slot"], json.dumps(params, sort_keys=True))
        numbers_of: dict[str, list[int]] = {}
        for number in sorted(planned):
            numbers_of.setdefault(planned[number], []).append(number)
        fresh = itertools.count(max(planned, default=-1) + 1)
        numbers: set[int] = set()
        missing: dict[int, Any] = {}
        for place, point in enumerate(plan):
            same = numbers_of.get(json.dumps(point, sort_keys=True))
            number = place if not point else same.pop(0) if same else next(fresh)
            numbers.add(number)
            if number not in planned:
                missing[number] = point
        return numbers, missing

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
            slots[number] = Slot(last, last.state in _DONE or final)
        return slots

    def budget_slots(self) -> dict[int, Slot]:
        """Return the slots within the budget, which may be smaller than an earlier one."""
        return {number: slot for number, slot in self.slots().items() if number in self.numbers}

    def n_done(self) -> int:
        """Return the number of slots in the budget that have their result, a failure included."""
        return sum(slot.done for slot in self.budget_slots().values())

    def out_of_time(self) -> bool:
        """Whether the time budget is spent."""
        if self.timeout_s is None:
            return False
        spent = [t.duration.total_seconds() for t in self.trials() if t.duration is not None]
        return sum(spent) >= self.timeout_s

    def finished(self) -> bool:
        """Whether no trial is left to run, by this worker or by another."""
        open_slots = [slot for slot in self.budget_slots().values() if not slot.done]
        if open_slots and self.out_of_time():
            return all(slot.trial.state != TrialState.RUNNING for slot in open_slots)
        return not open_slots

    def retry_lost(self) -> None:
        """Enqueue again the trials that were lost: without a sign of life, or interrupted."""
        patiently(lambda: fail_stale_trials(self.study))
        lost = [n for n, s in self.budget_slots().items() if self._is_lost(s)]
        if not lost:
            return
        with self.lock:
            for number, slot in self.budget_slots().items():  # again: others retry as well
                if number in lost and self._is_lost(slot):
                    fixed = slot.trial.system_attrs.get("fixed_params", {})
                    self._enqueue(number, {**fixed, **slot.trial.params})

    def _is_lost(self, slot: Slot) -> bool:
        return slot.trial.state == TrialState.FAIL and not slot.done

    def claim(self, sampler: Callable[[int], optuna.samplers.BaseSampler]) -> Trial | None:
        """Take a waiting trial, or return None.

        Args:
            sampler: function of the slot's number that returns the sampler of the parameters
                that the plan leaves open.
        """
        self.retry_lost()
        if self.out_of_time():
            return None
        with self.lock:
            waiting = [t for t in self.trials() if t.state == TrialState.WAITING]
            for frozen in waiting:
                slot, trial_id = frozen.user_attrs.get("slot"), frozen._trial_id
                if slot not in self.numbers:
                    continue
                beat(self.storage, trial_id)  # first, or a kill right now would leave no trace
                if not self._start(trial_id):
                    continue
                if self._is_superseded(frozen, slot):
                    self._drop(trial_id, "superseded", "another worker had taken up this slot")
                    continue
                self.study.sampler = sampler(slot)
                # Optuna caches the study's trials; the sampler needs the current ones.
                self.study._thread_local.cached_all_trials = None
                return patiently(partial(Trial, self.study, trial_id))
        return None

    def _start(self, trial_id: int) -> bool:
        # If the database fails after it wrote and before it answered, the second call finds the
        # trial running and returns False. Without signs of life the trial is then lost.
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
        # Another worker finished the trial, or an earlier try of this call that had no answer.
        with suppress(UpdateFinishedTrialError):
            patiently(lambda: self.storage.set_trial_user_attr(trial_id, key, text))
            patiently(lambda: self.storage.set_trial_state_values(trial_id, TrialState.FAIL))

    def tell(self, trial: Trial, state: TrialState, value: float | None = None) -> bool:
        """Finish a trial; return False if another worker has it because this one seemed dead."""
        values = None if value is None else [value]
        try:
            patiently(lambda: self.storage.set_trial_state_values(trial._trial_id, state, values))
        except UpdateFinishedTrialError:  # an earlier try of this call may have had no answer
            known = patiently(lambda: self.storage.get_trial(trial._trial_id))
            return known.state == state and known.values == values
        return True

    def fail(self, trial: Trial, error: str) -> None:
        """Finish a trial that raised an error, and keep the error's text, without secrets."""
        self._drop(trial._trial_id, "error", mask_secrets(error))

    def hand_back(self, trial: Trial) -> None:
        """Give up an interrupted trial: it is run again, and the retry is not counted."""
        self._drop(trial._trial_id, "interrupted", "by the user")

    def best(self) -> FrozenTrial | None:
        """Return the best finished trial, or None; among equal ones that of the first slot."""
        done = [s.trial for _, s in sorted(self.budget_slots().items())]
        done = [t for t in done if t.state == TrialState.COMPLETE and t.value is not None]
        sign = 1 if self.study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
        return max(done, key=lambda t: sign * (t.value or 0.0), default=None)
