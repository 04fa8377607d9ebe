"""A study's history and the importance of its parameters, as PDF and PNG."""

import logging
import warnings
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from recbole_llm.plotting import FILLS, figure_style, panels, save_figure


def plot_study(study: optuna.Study, stem: Path) -> list[Path]:
    """Draw what there is to draw, and return the files; too few trials have no importances."""
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not finished:
        return []
    with figure_style():
        return [*_plot_history(study, finished, stem), *_plot_importances(study, stem)]


def _plot_history(study: optuna.Study, trials: list[FrozenTrial], stem: Path) -> list[Path]:
    figure, axes = panels(1, 1, width=4.1, height=2.8)
    axis = axes[0, 0]
    values = [(trial.number, trial.value) for trial in trials if trial.value is not None]
    bigger = study.direction == optuna.study.StudyDirection.MAXIMIZE
    best = [(max if bigger else min)(v for _, v in values[: i + 1]) for i in range(len(values))]
    axis.plot(*zip(*values, strict=True), "o", color="0.6", label="trial")
    axis.step([n for n, _ in values], best, where="post", color="black", label="best so far")
    axis.set(xlabel="trial", ylabel=f"{study.user_attrs.get('metric', 'objective')} (validation)")
    axis.legend()
    return save_figure(figure, stem.with_name(f"{stem.name}-history"))


def _plot_importances(study: optuna.Study, stem: Path) -> list[Path]:
    try:
        with warnings.catch_warnings():
            # Optuna warns where it cannot tell, and then calls all parameters equal.
            warnings.simplefilter("error", UserWarning)
            importances = optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError, ZeroDivisionError, UserWarning) as error:
        logging.getLogger(__name__).info("no importances of %s: %s", study.study_name, error)
        return []
    if not importances:
        return []
    figure, axes = panels(1, 1, width=4.1, height=0.4 + 0.35 * len(importances))
    names = list(reversed(importances))
    axes[0, 0].barh(names, [importances[name] for name in names], color=FILLS[0])
    axes[0, 0].set(xlabel="importance", xlim=(0, 1), axisbelow=True)
    return save_figure(figure, stem.with_name(f"{stem.name}-importance"))
