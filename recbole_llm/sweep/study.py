"""Studies as queues: each trial of the budget is enqueued once, claimed once, and retried if lost.

A budget of n trials is n numbered slots. The trials of a slot are its first run and its retries,
and a worker claims a waiting one, so that any number of workers ends with exactly n results.
Optuna's own ``optimize`` starts a trial whenever it finds none waiting: it exceeds the budget by
the number of workers.
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
        digest: hash of all that the results depend on; a study with another one is not resumed.
        plan: fixed parameters of each slot, ``{}`` where the sampler draws them.
        bigger: whether a larger objective is better.
        max_retry: number of times that a lost trial is run again.
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
            slots[number] = Slot(last, last.state in _DONE or final)
        return slots

    def budget_slots(self) -> dict[int, Slot]:
        """Return the slots within the budget, which may be smaller than an earlier one."""
        return {number: slot for number, slot in self.slots().items() if number < self.size}

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
                if slot is None or slot >= self.size:
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
        """Finish a trial that raised an error, and keep the error's text."""
        self._drop(trial._trial_id, "error", error)

    def hand_back(self, trial: Trial) -> None:
        """Give up an interrupted trial: it is run again, and the retry is not counted."""
        self._drop(trial._trial_id, "interrupted", "by the user")

    def best(self) -> FrozenTrial | None:
        """Return the best finished trial, or None; among equal ones that of the first slot."""
        done = [s.trial for _, s in sorted(self.budget_slots().items())]
        done = [t for t in done if t.state == TrialState.COMPLETE and t.value is not None]
        sign = 1 if self.study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
        return max(done, key=lambda t: sign * (t.value or 0.0), default=None)
