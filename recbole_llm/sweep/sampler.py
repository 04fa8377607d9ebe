"""Samplers and pruners by name, always seeded, and the points that are drawn ahead."""

import hashlib

import optuna

from recbole_llm.sweep.space import Space, Value, grid_points, suggest
from recbole_llm.sweep.spec import Search


def build_pruner(search: Search, epochs: int) -> optuna.pruners.BasePruner:
    """Return the pruner that a spec names."""
    if search.pruner == "median":
        return optuna.pruners.MedianPruner(
            n_startup_trials=search.startup_trials, n_warmup_steps=search.warmup_epochs
        )
    if search.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=max(1, search.warmup_epochs), max_resource=max(1, epochs)
        )
    return optuna.pruners.NopPruner()


def build_sampler(search: Search, slot: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of one slot: TPE, seeded by the spec and the slot, or one of a fixed plan.

    Its settings are written out because they differ between releases of Optuna.
    """
    digest = hashlib.sha256(f"{search.seed}/{slot}".encode()).digest()
    seed = int.from_bytes(digest[:4], "big")
    if search.sampler == "tpe":
        return optuna.samplers.TPESampler(
            n_startup_trials=10, n_ei_candidates=24, multivariate=True, group=True, seed=seed
        )
    return optuna.samplers.RandomSampler(seed=seed)


def plan(search: Search, space: Space, n_trials: int | None) -> list[dict[str, Value]]:
    """Return each slot's parameters, drawn ahead; ``{}`` for TPE, which learns from the results.

    So the points of random, grid and QMC search depend on nothing but the spec: not on the number
    of workers, nor on what was killed.

    Raises:
        ValueError: the grid has no end, or is larger than the budget.
    """
    if search.sampler == "tpe":
        return [{} for _ in range(n_trials or 0)]
    if search.sampler == "grid":
        points = grid_points(space)
        if n_trials is not None and n_trials < len(points):
            raise ValueError(
                f"search.n_trials: the grid has {len(points)} points, more than {n_trials}."
            )
        return points
    sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=search.seed)
    if search.sampler == "qmc":
        sampler = optuna.samplers.QMCSampler(
            qmc_type="sobol", scramble=True, seed=search.seed, warn_independent_sampling=False
        )
    study = optuna.create_study(sampler=sampler)
    points = []
    for _ in range(n_trials or 0):
        trial = study.ask()
        points.append(suggest(space, trial))
        study.tell(trial, 0.0)
    return points
