"""A study's history and the importance of its parameters, as PDF and PNG."""

import logging
import warnings
from pathlib import Path

import optuna
from optuna.trial import TrialState


def plot_study(study: optuna.Study, stem: Path) -> list[Path]:
    """Draw what there is to draw, and return the files; too few trials have no importances."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    files: list[Path] = []
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not done:
        return files
    stem.parent.mkdir(parents=True, exist_ok=True)
    figure, axis = plt.subplots(figsize=(4.5, 3))
    values = [(trial.number, trial.value) for trial in done if trial.value is not None]
    bigger = study.direction == optuna.study.StudyDirection.MAXIMIZE
    best = [(max if bigger else min)(v for _, v in values[: i + 1]) for i in range(len(values))]
    axis.plot(*zip(*values, strict=True), "o", color="0.6", markersize=4, label="trial")
    axis.step([n for n, _ in values], best, where="post", color="black", label="best so far")
    axis.set(xlabel="trial", ylabel=f"{study.user_attrs.get('metric', 'objective')} (validation)")
    axis.legend(fontsize=8)
    files += _save(figure, stem, "history")
    try:
        with warnings.catch_warnings():
            # Optuna warns where it cannot tell, and then calls all parameters equal.
            warnings.simplefilter("error", UserWarning)
            importances = optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError, ZeroDivisionError, UserWarning) as error:
        logging.getLogger(__name__).info("no importances of %s: %s", study.study_name, error)
        importances = {}
    if importances:
        figure, axis = plt.subplots(figsize=(4.5, 0.6 + 0.35 * len(importances)))
        names = list(reversed(importances))
        axis.barh(names, [importances[name] for name in names], color="0.5")
        axis.set(xlabel="importance", xlim=(0, 1))
        files += _save(figure, stem, "importance")
    return files


def _save(figure: "object", stem: Path, kind: str) -> list[Path]:
    from matplotlib import pyplot as plt
    from matplotlib.figure import Figure

    assert isinstance(figure, Figure)
    figure.tight_layout()
    paths = [stem.parent / f"{stem.name}-{kind}{suffix}" for suffix in (".pdf", ".png")]
    for path in paths:
        figure.savefig(path, dpi=150)
    plt.close(figure)
    return paths
