"""How the searches and final runs of a sweep went, as text, and whether all of them finished."""

from collections.abc import Sequence
from typing import NamedTuple

from optuna.trial import TrialState

from recbole_llm.secrets import mask_secrets
from recbole_llm.sweep.study import Queue
from recbole_llm.sweep.task import Task


class Summary(NamedTuple):
    """How a sweep went.

    Attributes:
        text: each row's choice, how its budget was spent, and its errors.
        complete: whether every row has all of its final runs.
    """

    text: str
    complete: bool


def summarize(tasks: Sequence[Task]) -> Summary:
    """Return how the rows of a sweep went."""
    parts = [_summarize_row(task) for task in tasks]
    return Summary("\n".join(part.text for part in parts), all(part.complete for part in parts))


def _summarize_row(task: Task) -> Summary:
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
        return Summary("\n".join([*lines, "  no final runs: no trial finished"]), False)
    states = [slot.trial.state for slot in finals.budget_slots().values()]
    n_complete = states.count(TrialState.COMPLETE)
    lines.append(f"  final runs: {n_complete} of {finals.size}")
    return Summary("\n".join([*lines, *_errors(finals)]), n_complete == finals.size)


def _errors(queue: Queue) -> list[str]:
    """Return a line for each different error of a queue's trials."""
    done = [slot.trial for slot in queue.budget_slots().values() if slot.done]
    errors = {str(trial.user_attrs["error"]) for trial in done if "error" in trial.user_attrs}
    # Earlier releases stored the texts as they were.
    return [f"  error: {mask_secrets(error)}" for error in sorted(errors)]
