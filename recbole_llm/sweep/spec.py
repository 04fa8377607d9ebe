"""Specs: one YAML an experiment, read by ``recbole_llm sweep`` and ``recbole_llm report``.

The keys of the file are in ``schema.py`` and listed in ``benchmarks/README.md``. A profile replaces
keys of the spec, except that its ``settings``, ``model_settings`` and ``search`` are laid over the
spec's.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_llm.registry import suggest
from recbole_llm.sweep.sampler import SAMPLERS
from recbole_llm.sweep.schema import HeatmapFigure, LineFigure, RowEntry, Search, SpecFile
from recbole_llm.sweep.space import Space, Value, product
from recbole_llm.sweep.space_entry import build_space
from recbole_llm.sweep.validation import validate
from recbole_llm.yaml_io import read_yaml

#: Settings that a spec gives by a key of its own.
_OWN_KEYS = {"model": "rows", "dataset": "datasets", "seed": "seeds", "valid_metric": "metric"}


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table: a model with settings of its own, tuned if it has a space.

    Attributes:
        label: name of the row in tables and studies.
        model: name of a model, or ``package.module:Class``.
        settings: settings of this row's runs.
        space: searched parameters, empty if the row is not tuned.
        n_trials: budget of this row; None: the search's.
        metric: validation metric of this row; None: the spec's.
        published: label of the row in the paper's table; None: ``label``.
    """

    label: str
    model: str
    settings: dict[str, Any]
    space: Space
    n_trials: int | None = None
    metric: str | None = None
    published: str | None = None


@dataclasses.dataclass(frozen=True)
class Spec:
    """An experiment, with one of its profiles applied.

    Attributes:
        name: name of the report's folder and the studies.
        profile: name of the applied profile; ``paper``: the spec as it stands.
        title: title of the report.
        source: paper, with its table or figure.
        datasets: names of the datasets that every row is trained on.
        protocol: evaluation protocol; None: the model's own, or the split that the data has.
        metric: validation metric that chooses the epoch and the configuration.
        seeds: seeds that every row is trained with; trials use the first.
        settings: settings of every run.
        model_settings: settings by model, over ``settings``.
        rows: lines of the table.
        grid: points of the figures; ``({},)`` if there is no grid.
        search: how rows with a space are tuned; None: no row has one.
        tables: tables of the report, each as its class in ``schema.py`` has it.
        figures: figures of the report, likewise.
        compare: label of the row whose improvement and significance are reported.
        published: ``file/table`` of the paper's numbers.
        note: text that a reader of the report must know.
        path: file that was read.
        profiles: names of all profiles, ``paper`` first.
    """

    name: str
    profile: str
    title: str
    source: str
    datasets: tuple[str, ...]
    protocol: str | None
    metric: str
    seeds: tuple[int, ...]
    settings: dict[str, Any]
    model_settings: dict[str, dict[str, Any]]
    rows: tuple[Row, ...]
    grid: tuple[dict[str, Any], ...]
    search: Search | None
    tables: tuple[dict[str, Any], ...]
    figures: tuple[dict[str, Any], ...]
    compare: str | None
    published: str | None
    note: str
    path: Path
    profiles: tuple[str, ...]

    def settings_of(self, row: Row, point: Mapping[str, Value] | None = None) -> dict[str, Any]:
        """Return the fixed settings of a row: common, the model's, its own, then the point's."""
        protocol = {"protocol": self.protocol} if self.protocol else {}
        model = self.model_settings.get(row.model, {})
        common = {"valid_metric": self.metric_of(row), **protocol, **self.settings}
        return {**common, **model, **row.settings, **(point or {})}

    def metric_of(self, row: Row) -> str:
        """Return the validation metric that chooses a row's epoch and configuration."""
        return row.metric or self.metric

    @property
    def measures_test(self) -> bool:
        """Whether final runs score the test part; a figure alone is drawn on validation."""
        return bool(self.tables) or any(figure.get("part") == "test" for figure in self.figures)


def load_spec(path: str | Path, profile: str | None = None) -> Spec:
    """Read a spec.

    Args:
        path: YAML file.
        profile: name of one of its profiles; None or ``paper``: the spec as it stands.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: one line that names the file and the key that is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"spec {path} does not exist. Shipped ones are in benchmarks/.")
    content = read_yaml(path)
    try:
        return _parse(content, path, profile or "paper")
    except ValueError as error:
        raise ValueError(f"spec {path}: {error}") from error


def _parse(content: dict[str, Any], path: Path, profile: str) -> Spec:
    file = validate(SpecFile, content)
    profiles = ("paper", *(file.profiles or {}))
    if "paper" in profiles[1:]:
        raise ValueError("profiles.paper: this name means the spec as it stands; choose another.")
    if profile not in profiles:
        known = ", ".join(profiles)
        raise ValueError(
            f"no profile {profile!r}; it has: {known}.{suggest(profile, list(profiles))}"
        )
    if profile != "paper":
        file = validate(SpecFile, _merge(content, content["profiles"][profile]))
    rows, grid = _rows(file), _grid(file)
    _check(file, rows, grid)
    default_tables = [] if file.figures else [{"kind": "metrics"}]
    tables = default_tables if "tables" not in file.model_fields_set else _dump(file.tables)
    return Spec(
        name=file.name or f"{path.resolve().parent.name}-{path.stem}",
        profile=profile,
        title=file.title,
        source=file.source,
        datasets=tuple(file.datasets),
        protocol=file.protocol,
        metric=file.metric,
        seeds=tuple(file.seeds),
        settings=file.settings or {},
        model_settings={k: v or {} for k, v in (file.model_settings or {}).items()},
        rows=tuple(rows),
        grid=tuple(grid),
        search=file.search,
        tables=tuple(tables),
        figures=tuple(_dump(file.figures)),
        compare=file.compare,
        published=file.published,
        note=file.note,
        path=path,
        profiles=profiles,
    )


def _dump(entries: Iterable[Any] | None) -> list[dict[str, Any]]:
    return [entry.model_dump(exclude_none=True) for entry in entries or ()]


def _merge(content: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Lay a profile over a spec; both have passed the schema."""
    merged = {**content, **over}
    for key in ("settings", "search", "model_settings"):
        if content.get(key) and over.get(key):
            merged[key] = {**content[key], **over[key]}
    for model, settings in (over.get("model_settings") or {}).items():
        below = (content.get("model_settings") or {}).get(model) or {}
        merged["model_settings"][model] = {**below, **(settings or {})}
    return merged


def _rows(file: SpecFile) -> list[Row]:
    if (file.rows is None) == (file.models is None):
        raise ValueError("rows: a spec has either `rows` or `models`.")
    entries = file.rows or [
        RowEntry.model_validate({"model": model}) for model in file.models or ()
    ]
    common = build_space(file.space or {}, "space")
    rows: list[Row] = []
    for i, entry in enumerate(entries):
        where = f"rows[{i}]"
        replaced = "space" in entry.model_fields_set
        space = build_space(entry.space or {}, f"{where}.space") if replaced else common
        row = Row(
            entry.label or entry.model,
            entry.model,
            entry.settings or {},
            space,
            entry.n_trials,
            entry.metric,
            entry.published,
        )
        if row.label in [other.label for other in rows]:
            raise ValueError(f"{where}.label: {row.label!r} is taken; every row has its own.")
        fixed = {key.partition(".")[0] for key in row.settings}
        for parameter in space:
            if parameter.name in fixed:
                raise ValueError(f"{where}: {parameter.name!r} is both fixed and searched.")
        rows.append(row)
    return rows


def _grid(file: SpecFile) -> list[dict[str, Any]]:
    grids = file.grid if isinstance(file.grid, list) else [file.grid or {}]
    points: list[dict[str, Any]] = []
    for grid in grids:
        points += [point for point in product(grid) if point not in points]
    return points


def _check(file: SpecFile, rows: Sequence[Row], grid: Sequence[dict[str, Any]]) -> None:
    """Check what one key means for another."""
    for key, values in (("seeds", file.seeds), ("datasets", file.datasets)):
        if len(set(values)) < len(values):
            raise ValueError(f"{key}: each of them once, found {values}.")
    if file.search is None and any(row.space for row in rows):
        raise ValueError("space: there is no `search` to say how it is searched.")
    if file.search is not None and file.grid is not None:
        raise ValueError("grid: a spec has either a `search` or a `grid` of points to draw.")
    if file.search and file.search.n_trials is None and SAMPLERS[file.search.sampler].build:
        for row in rows:
            if row.space and row.n_trials is None:
                raise ValueError(f"search.n_trials: no budget for {row.label}.")
    labels = [row.label for row in rows]
    if file.compare is not None and file.compare not in labels:
        raise ValueError(
            f"compare: {file.compare!r} is not the label of a row.{suggest(file.compare, labels)}"
        )
    _check_axes(file, grid)
    _check_settings(file.settings, "settings")
    for model, settings in (file.model_settings or {}).items():
        _check_settings(settings, f"model_settings.{model}")
    for i, row in enumerate(rows):
        _check_settings(row.settings, f"rows[{i}].settings")
        _check_settings({parameter.name: None for parameter in row.space}, f"rows[{i}].space")
    for point in grid:
        _check_settings(point, "grid")


def _check_axes(file: SpecFile, grid: Sequence[dict[str, Any]]) -> None:
    for i, figure in enumerate(file.figures or ()):
        axes = {"x": figure.x} if isinstance(figure, (LineFigure, HeatmapFigure)) else {}
        if isinstance(figure, HeatmapFigure):
            axes["y"] = figure.y
        for axis, key in axes.items():
            values = [point[key] for point in grid if key in point]
            if not values:
                known = list({name: None for point in grid for name in point})
                raise ValueError(
                    f"figures[{i}].{axis}: {key!r} is not a key of `grid`.{suggest(key, known)}"
                )
            if any(isinstance(value, (list, dict)) for value in values):
                raise ValueError(f"figures[{i}].{axis}: the values of grid.{key} are not plain.")


def _check_settings(settings: Mapping[str, Any] | None, where: str) -> None:
    for key, value in (settings or {}).items():
        if key in _OWN_KEYS:
            raise ValueError(f"{where}.{key}: a spec gives this by its key `{_OWN_KEYS[key]}`.")
        texts = value if isinstance(value, list) else [value]
        if key == "config_files" and not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{where}.config_files: expected a list of files, found {value!r}.")
