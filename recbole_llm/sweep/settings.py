"""The settings of a sweep's runs, and their check before the first run starts."""

from collections.abc import Iterator, Mapping
from typing import Any

from recbole.utils import EvaluatorType

from recbole_llm.config import Config
from recbole_llm.metrics.register import metric_types
from recbole_llm.registry import suggest
from recbole_llm.sweep.space import extreme_points
from recbole_llm.sweep.spec import Row, Spec

#: Defaults of runs inside a sweep, which the spec and the command line replace.
QUIET = {"show_progress": False, "state": "WARNING"}


def run_settings(
    spec: Spec, row: Row, point: Mapping[str, Any], overrides: Mapping[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """Return the config files and the settings of a run.

    Args:
        spec: experiment.
        row: line of the table.
        point: values that are laid over the row's settings, such as those drawn by a trial.
        overrides: settings of the command line, over everything else.
    """
    settings = {**QUIET, **spec.settings_of(row), **point, **overrides}
    files = settings.pop("config_files", [])
    return files.split() if isinstance(files, str) else list(files), settings


def check_settings(spec: Spec, overrides: Mapping[str, Any]) -> None:
    """Resolve the settings of every row on every dataset, with every value that may go wrong.

    Each row is resolved at one point of its space on each dataset; on the first dataset also at
    both ends of each range, at each choice, and at each value of the grid.

    Raises:
        ValueError: names the row, the dataset, and the searched key whose value is wrong.
        FileNotFoundError: a config file does not exist.
    """
    for i, row in enumerate(spec.rows):
        for dataset in spec.datasets:
            where = f"rows[{i}] ({row.label}) on {dataset}"
            _check_metrics(spec, _resolve(spec, row, dataset, spec.grid[0], overrides, where))
        where = f"rows[{i}] ({row.label}) on {spec.datasets[0]}"
        try:
            points = [*_space_points(row), *_grid_points(spec)]
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        for place, point in points:
            _resolve(spec, row, spec.datasets[0], point, overrides, f"{where}, {place}")


def _space_points(row: Row) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, value, point in extreme_points(row.space):
        yield f"space.{key}={value!r}", point


def _grid_points(spec: Spec) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the first point of the grid that holds a value, for each value."""
    seen: set[str] = set()
    for point in spec.grid:
        for key, value in point.items():
            place = f"grid.{key}={value!r}"
            if place not in seen:
                seen.add(place)
                yield place, point


def _check_metrics(spec: Spec, config: Config) -> None:
    """Refuse a metric of a table or figure that the runs do not measure."""
    names = [str(name).lower() for name in config["metrics"]]
    ranking = [name for name in names if metric_types[name] == EvaluatorType.RANKING]
    measured = [f"{name}@{k}" for name in ranking for k in config["topk"]]
    measured += [name for name in names if name not in ranking]
    for key, entries in (("tables", spec.tables), ("figures", spec.figures)):
        for i, entry in enumerate(entries):
            for metric in entry.get("metrics", ()):
                if metric not in measured:
                    raise ValueError(
                        f"{key}[{i}].metrics: {metric!r} is not measured; set `metrics` and "
                        f"`topk` in `settings`.{suggest(metric, measured)}"
                    )


def resolve_settings(
    spec: Spec,
    row: Row,
    dataset: str,
    point: Mapping[str, Any],
    overrides: Mapping[str, Any],
) -> Config:
    """Return the settings of a row's run on a dataset, with all files and defaults.

    Raises:
        ValueError: a setting is wrong.
        FileNotFoundError: a config file does not exist.
    """
    files, settings = run_settings(spec, row, point, overrides)
    return Config(row.model, dataset, files, settings)


def _resolve(
    spec: Spec,
    row: Row,
    dataset: str,
    point: Mapping[str, Any],
    overrides: Mapping[str, Any],
    where: str,
) -> Config:
    try:
        return resolve_settings(spec, row, dataset, point, overrides)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
