"""Samplers and pruners by name, always seeded, and the points that are drawn before a search.

A new one is a function below and a line in ``SAMPLERS`` or ``PRUNERS``: specs, their JSON schema
and their errors take the names from these tables. Optuna is imported when a function is called.
"""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from recbole_llm.sweep.space import Point, Space, draw, grid_points

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

    from recbole_llm.sweep.schema import Search


class Sampler(NamedTuple):
    """How the points of a search are drawn.

    Attributes:
        build: function of a seed that returns Optuna's sampler; None: the points are every
            combination of the space's values.
        learns: whether the sampler reads the results of earlier trials. The points of one that
            does not are drawn before the search, so that they depend on the spec alone.
    """

    build: "Callable[[int], BaseSampler] | None"
    learns: bool = False


def _tpe(seed: int) -> "BaseSampler":
    from optuna.samplers import TPESampler

    # Every setting is given because the defaults differ between releases of Optuna.
    return TPESampler(
        n_startup_trials=10, n_ei_candidates=24, multivariate=True, group=True, seed=seed
    )


def _random(seed: int) -> "BaseSampler":
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def _qmc(seed: int) -> "BaseSampler":
    from optuna.samplers import QMCSampler

    return QMCSampler(qmc_type="sobol", scramble=True, seed=seed, warn_independent_sampling=False)


SAMPLERS: dict[str, Sampler] = {
    "tpe": Sampler(_tpe, learns=True),
    "random": Sampler(_random),
    "grid": Sampler(None),
    "qmc": Sampler(_qmc),
}


def _no_pruner(search: "Search", epochs: int) -> "BasePruner":
    from optuna.pruners import NopPruner

    return NopPruner()


def _median(search: "Search", epochs: int) -> "BasePruner":
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=search.startup_trials, n_warmup_steps=search.warmup_epochs)


def _hyperband(search: "Search", epochs: int) -> "BasePruner":
    from optuna.pruners import HyperbandPruner

    return HyperbandPruner(min_resource=max(1, search.warmup_epochs), max_resource=max(1, epochs))


PRUNERS: "dict[str, Callable[[Search, int], BasePruner]]" = {
    "none": _no_pruner,
    "median": _median,
    "hyperband": _hyperband,
}


def build_pruner(search: "Search", epochs: int) -> "BasePruner":
    """Return the pruner that a spec names, for runs of at most ``epochs`` epochs."""
    return PRUNERS[search.pruner](search, epochs)


def build_sampler(search: "Search", slot: int) -> "BaseSampler":
    """Return the sampler of one slot, seeded by the spec's seed and the slot's number.

    All parameters of a point that was drawn before are fixed; its sampler draws nothing.
    """
    digest = hashlib.sha256(f"{search.seed}/{slot}".encode()).digest()
    seed = int.from_bytes(digest[:4], "big")
    sampler = SAMPLERS[search.sampler]
    build = sampler.build if sampler.learns and sampler.build else _random
    return build(seed)


def plan(search: "Search", space: Space, n_trials: int | None) -> list[Point]:
    """Return each slot's parameters; ``{}`` for a sampler that learns from the results.

    The points of the other samplers depend on the spec alone: they are the same for any number of
    workers, and after any interruption.

    Raises:
        ValueError: the grid is infinite, or larger than the budget.
    """
    sampler = SAMPLERS[search.sampler]
    if sampler.learns:
        return [{} for _ in range(n_trials or 0)]
    if sampler.build is not None:
        return _draw_all(sampler.build(search.seed), space, n_trials or 0)
    points = grid_points(space)
    if n_trials is not None and n_trials < len(points):
        raise ValueError(
            f"search.n_trials: the grid has {len(points)} points, more than {n_trials}."
        )
    return points


def _draw_all(sampler: "BaseSampler", space: Space, n_trials: int) -> list[Point]:
    import optuna

    study = optuna.create_study(sampler=sampler)
    points = []
    for _ in range(n_trials):
        trial = study.ask()
        points.append(draw(space, trial))
        study.tell(trial, 0.0)
    return points
