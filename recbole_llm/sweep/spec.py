"""Specs: one YAML an experiment, read by ``recbole_llm sweep`` and ``recbole_llm report``.

Keys are listed in ``benchmarks/README.md``. A profile replaces keys of the spec, except that its
``settings``, ``model_settings`` and ``search`` are laid over the spec's.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_llm.registry import suggest as suggest_name
from recbole_llm.sweep.space import Space, Value, parse_space, product
from recbole_llm.yaml_io import read_yaml

_KEYS = (
    "name title source datasets protocol metric seeds settings model_settings rows models grid "
    "search space profiles tables figures compare published note"
).split()
_ROW_KEYS = ["label", "model", "settings", "space", "n_trials", "published", "group"]
_SEARCH_KEYS = (
    "sampler seed pruner n_trials timeout_s max_retry warmup_epochs startup_trials"
).split()
SAMPLERS = ["tpe", "random", "grid", "qmc"]
PRUNERS = ["none", "median", "hyperband"]


@dataclasses.dataclass(frozen=True)
class Search:
    """How each row is tuned.

    Attributes:
        sampler: tpe, random, grid or qmc.
        seed: of the sampler; the runs have the spec's.
        pruner: none, median or hyperband, fed with the validation metric of each epoch.
        n_trials: budget of each row; a grid's is its size where this is None.
        timeout_s: most seconds spent in a row's trials, summed over workers; None: no limit.
        max_retry: how many times a trial is run again whose worker died.
        warmup_epochs: validations before a trial may be pruned.
        startup_trials: finished trials before one may be pruned.
    """

    sampler: str = "tpe"
    seed: int = 0
    pruner: str = "none"
    n_trials: int | None = None
    timeout_s: float | None = None
    max_retry: int = 2
    warmup_epochs: int = 0
    startup_trials: int = 5


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table: a model with settings of its own, tuned if it has a space."""

    label: str
    model: str
    settings: dict[str, Any]
    space: Space
    n_trials: int | None = None
    published: str | None = None
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Spec:
    """An experiment; ``grid`` holds the points of its figures, one, {}, if it has none."""

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
    grid: tuple[dict[str, Value], ...]
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
        common = {"valid_metric": self.metric, **protocol, **self.settings}
        return {**common, **model, **row.settings, **(point or {})}

    @property
    def measures_test(self) -> bool:
        """Whether runs other than trials score test: not those of figures drawn on validation."""
        return bool(self.tables) or any(it["part"] == "test" for it in self.figures)

    def digest(self, row: Row, dataset: str) -> str:
        """Return a hash of all that a row's trials depend on, the budget apart."""
        search = dataclasses.asdict(self.search) if self.search else {}
        for budget in ("n_trials", "timeout_s", "max_retry"):
            search.pop(budget, None)
        content = [dataset, row.model, self.settings_of(row), row.space, search, self.seeds[0]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def load_spec(path: str | Path, profile: str | None = None) -> Spec:
    """Read a spec.

    Args:
        path: the YAML file.
        profile: name of one of its profiles; None or ``paper``: the spec as it stands.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: names the file and the key that is wrong.
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
    _check_keys(content, _KEYS, "")
    profiles = _mapping(content, "profiles")
    if profile != "paper":
        if profile not in profiles:
            raise ValueError(f"no profile {profile!r}; it has: {', '.join(['paper', *profiles])}.")
        content = _merge(content, _mapping(profiles, profile), profile)
    metric = content.get("metric", "Recall@20")
    if not isinstance(metric, str):
        raise ValueError(f"metric: expected a name such as Recall@20, found {metric!r}.")
    space = parse_space(content.get("space") or {})
    search = _search(content["search"]) if "search" in content else None
    seeds = _list(content, "seeds", int, [2020])
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds: each seed once, found {seeds}.")
    rows = _rows(content, space)
    if search is None and any(row.space for row in rows):
        raise ValueError("space: there is no `search` to say how it is searched.")
    grid = _grid(content.get("grid"))
    if search is not None and grid != [{}]:
        raise ValueError("grid: a spec has either a `search` or a `grid` of points to draw.")
    if search and search.n_trials is None and search.sampler != "grid":
        for row in rows:
            if row.space and row.n_trials is None:
                raise ValueError(f"search.n_trials: no budget for {row.label}.")
    figures = [_figure(it, grid) for it in content.get("figures") or []]
    default_tables = [] if figures else [{"kind": "metrics"}]
    compare = content.get("compare")
    if compare is not None and compare not in [row.label for row in rows]:
        raise ValueError(f"compare: {compare!r} is not the label of a row.")
    return Spec(
        name=str(content.get("name") or f"{path.resolve().parent.name}-{path.stem}"),
        profile=profile,
        title=str(content.get("title", "")),
        source=str(content.get("source", "")),
        datasets=tuple(_list(content, "datasets", str)),
        protocol=content.get("protocol"),
        metric=metric,
        seeds=tuple(seeds),
        settings=_mapping(content, "settings"),
        model_settings={
            model: _mapping(_mapping(content, "model_settings"), model, "model_settings.")
            for model in _mapping(content, "model_settings")
        },
        rows=tuple(rows),
        grid=tuple(grid),
        search=search,
        tables=tuple(_table(it) for it in content.get("tables", default_tables) or []),
        figures=tuple(figures),
        compare=compare,
        published=content.get("published"),
        note=str(content.get("note", "")),
        path=path,
        profiles=("paper", *profiles),
    )


def _merge(content: dict[str, Any], over: dict[str, Any], profile: str) -> dict[str, Any]:
    _check_keys(over, [key for key in _KEYS if key not in ("name", "profiles")], f"{profile}.")
    merged = {**content, **over}
    for key in ("settings", "search", "model_settings"):
        if key in content and isinstance(over.get(key), dict):
            merged[key] = {**_mapping(content, key), **over[key]}
    for model, settings in (over.get("model_settings") or {}).items():
        below = (content.get("model_settings") or {}).get(model) or {}
        merged["model_settings"][model] = {**below, **settings}
    return merged


def _check_keys(content: Mapping[str, Any], known: list[str], where: str) -> None:
    for key in content:
        if key not in known:
            raise ValueError(f"unknown key {where + key!r}.{suggest_name(key, known)}")


def _mapping(content: Mapping[str, Any], key: str, where: str = "") -> dict[str, Any]:
    value = content.get(key) or {}
    if not isinstance(value, dict):
        raise ValueError(f"{where}{key}: expected `key: value` lines, found {value!r}.")
    return value


def _list(content: Mapping[str, Any], key: str, kind: type, default: Any = None) -> list[Any]:
    value = content.get(key, default)
    if not isinstance(value, list) or not value or any(type(it) is not kind for it in value):
        raise ValueError(f"{key}: expected a list of {kind.__name__}, found {value!r}.")
    return value


def _rows(content: Mapping[str, Any], space: Space) -> list[Row]:
    entries = content.get("rows")
    if entries is None:
        entries = [{"model": name} for name in _list(content, "models", str)]
    elif "models" in content:
        raise ValueError("models: a spec has either `rows` or `models`.")
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"rows: expected a list, found {entries!r}.")
    rows: list[Row] = []
    for i, entry in enumerate(entries):
        where = f"rows[{i}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("model"), str):
            raise ValueError(f"{where}.model: every row names its model, found {entry!r}.")
        _check_keys(entry, _ROW_KEYS, f"{where}.")
        n_trials = entry.get("n_trials")
        if n_trials is not None and (type(n_trials) is not int or n_trials < 1):
            raise ValueError(f"{where}.n_trials: expected an integer >= 1, found {n_trials!r}.")
        own = parse_space(entry["space"] or {}, f"{where}.space") if "space" in entry else space
        label = str(entry.get("label", entry["model"]))
        if label in [row.label for row in rows]:
            raise ValueError(f"{where}.label: {label!r} is taken; every row has its own.")
        settings = _mapping(entry, "settings", f"{where}.")
        fixed = {key.partition(".")[0] for key in settings}
        for parameter in own:
            if parameter.name in fixed:
                raise ValueError(f"{where}: {parameter.name!r} is both fixed and searched.")
        rows.append(
            Row(
                label,
                entry["model"],
                settings,
                own,
                n_trials,
                entry.get("published"),
                str(entry.get("group", "")),
            )
        )
    return rows


def _search(content: Any) -> Search:
    if not isinstance(content, dict):
        raise ValueError(f"search: expected `key: value` lines, found {content!r}.")
    _check_keys(content, _SEARCH_KEYS, "search.")
    search = Search(**content)
    for key, known in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        if getattr(search, key) not in known:
            raise ValueError(
                f"search.{key}: expected one of {', '.join(known)}, found {getattr(search, key)!r}."
            )
    lowest = {"seed": 0, "n_trials": 1, "max_retry": 0, "warmup_epochs": 0, "startup_trials": 0}
    for key, low in lowest.items():
        value = getattr(search, key)
        if (key != "n_trials" or value is not None) and (type(value) is not int or value < low):
            raise ValueError(f"search.{key}: expected an integer >= {low}, found {value!r}.")
    timeout = search.timeout_s
    if timeout is not None and (not isinstance(timeout, (int, float)) or not timeout > 0):
        raise ValueError(f"search.timeout_s: expected seconds > 0, found {timeout!r}.")
    return search


def _grid(content: Any) -> list[dict[str, Value]]:
    if content is None:
        return [{}]
    grids = content if isinstance(content, list) else [content]
    points: list[dict[str, Value]] = []
    for grid in grids:
        if not isinstance(grid, dict) or not grid:
            raise ValueError(f"grid: expected `key: [values]` lines, found {grid!r}.")
        for key, values in grid.items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"grid.{key}: expected a list of values, found {values!r}.")
        points += [point for point in product(grid) if point not in points]
    return points


_TABLE_KINDS = ["metrics", "cost"]
_FIGURE_KINDS = {
    "line": ["x", "symbol", "metrics", "log"],
    "heatmap": ["x", "y", "x_symbol", "y_symbol", "metrics"],
    "bars": ["metrics"],
    "embeddings": ["rows", "n_users"],
}


def _table(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict) or entry.get("kind", "metrics") not in _TABLE_KINDS:
        raise ValueError(f"tables: kind is one of {', '.join(_TABLE_KINDS)}; found {entry!r}.")
    _check_keys(entry, ["kind", "metrics", "title"], "tables.")
    return {"kind": "metrics", **entry}


def _figure(entry: Any, grid: list[dict[str, Value]]) -> dict[str, Any]:
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if kind not in _FIGURE_KINDS:
        raise ValueError(f"figures: kind is one of {', '.join(_FIGURE_KINDS)}; found {entry!r}.")
    _check_keys(entry, ["kind", "part", "title", *_FIGURE_KINDS[kind]], "figures.")
    for axis in ("x", "y"):
        if axis in _FIGURE_KINDS[kind] and not any(entry.get(axis) in point for point in grid):
            raise ValueError(f"figures.{axis}: {entry.get(axis)!r} is not a key of `grid`.")
    part = entry.get("part", "valid")
    if part not in ("valid", "test"):
        raise ValueError(f"figures.part: expected valid or test, found {part!r}.")
    return {"title": "", **entry, "part": part}
