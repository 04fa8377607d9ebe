"""Which run records belong to which cell of a table, and whether they may be averaged."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from recbole_llm.record import RunRecord
from recbole_llm.report.statistics import mean_std
from recbole_llm.sweep.space import Value
from recbole_llm.sweep.spec import Row, Spec


class Run(NamedTuple):
    """A record and the file that it was read from."""

    record: RunRecord
    path: Path

    @property
    def leaky(self) -> bool:
        """Whether the run's user profiles were written from held-out interactions."""
        profiles = self.record.data.get("user_profiles", {})
        return any(profile["leaky"] for profile in profiles.values())


@dataclasses.dataclass
class Cell:
    """The runs of one row on one data set at one point, a run a seed.

    Attributes:
        problem: why they are not averaged, or empty.
    """

    runs: list[Run]
    problem: str = ""

    @property
    def leaky(self) -> bool:
        """Whether a run is; a cell with leaky and clean runs has a ``problem``."""
        return any(run.leaky for run in self.runs)

    def values(self, part: str, metric: str) -> list[float]:
        """Return each run's metric; none where there is a problem or nothing was measured."""
        measured = [run.record.metrics.get(part, {}).get(metric) for run in self.runs]
        return [] if self.problem else [value for value in measured if value is not None]

    def mean_std(self, part: str, metric: str) -> tuple[float, float | None] | None:
        """Return mean and standard deviation over seeds, or None without a value."""
        values = self.values(part, metric)
        return mean_std(values) if values else None


Key = tuple[str, str, str]


class Cells(NamedTuple):
    """All cells of a spec, what must be said about them, and where they come from."""

    by_key: dict[Key, Cell]
    notes: list[str]

    def get(self, dataset: str, row: Row, point: Mapping[str, Value] | None = None) -> Cell:
        """Return a cell; an empty one where there is no run."""
        return self.by_key.get((dataset, row.label, _text(point or {})), Cell([]))


def read_runs(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Read every record of ``<folder>/<run>/record.json`` and ``<folder>/<run>.json``.

    Returns:
        The finished runs, each once, and a note for each file that is not a record.
    """
    runs: dict[str, Run] = {}
    notes = []
    for folder in folders:
        for path in sorted([*folder.glob("*/record.json"), *folder.glob("*.json")]):
            try:
                record = RunRecord.load(path)
            except ValueError as error:
                notes.append(f"not read: {error}")
                continue
            if record.status == "finished":
                runs.setdefault(record.id, Run(record, path))
    return list(runs.values()), notes


def profiles_with_runs(spec: Spec, runs: Iterable[Run]) -> list[str]:
    """Return which of a spec's profiles a sweep has final runs of."""
    found = {
        run.record.origin["profile"]
        for run in runs
        if run.record.origin.get("sweep") == spec.name and run.record.origin["kind"] == "final"
    }
    return [profile for profile in spec.profiles if profile in found]


def collect(spec: Spec, runs: Iterable[Run]) -> Cells:
    """Put runs into the cells of a spec.

    A sweep's final runs name their cell. A run by itself belongs to a row that is not searched if
    it has the model, data set and every setting of it.
    """
    runs = list(runs)
    by_key: dict[Key, Cell] = {}
    notes: list[str] = []
    for dataset in spec.datasets:
        for row in spec.rows:
            for point in spec.grid:
                mine = [run for run in runs if _belongs(run.record, spec, row, dataset, point)]
                if mine:
                    where = f"{row.label} on {dataset}{' at ' + _text(point) if point else ''}"
                    cell = _cell(mine, spec, where, notes)
                    by_key[dataset, row.label, _text(point)] = cell
    notes += _differences(by_key)
    return Cells(by_key, notes)


def _text(point: Mapping[str, Any]) -> str:
    return json.dumps(dict(point), sort_keys=True) if point else ""


def _belongs(
    record: RunRecord, spec: Spec, row: Row, dataset: str, point: Mapping[str, Value]
) -> bool:
    origin = record.origin
    if record.dataset != dataset:
        return False
    if origin:
        wanted = [spec.name, spec.profile, row.label, "final", dict(point)]
        return [origin.get(key) for key in ("sweep", "profile", "row", "kind", "point")] == wanted
    if row.space or record.model != row.model or record.seed not in spec.seeds:
        return False
    settings = spec.settings_of(row, point)
    files = settings.pop("config_files", None)
    return not files and all(_lookup(record.config, k) == v for k, v in settings.items())


def _lookup(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _cell(runs: list[Run], spec: Spec, where: str, notes: list[str]) -> Cell:
    """Keep the newest run of each seed, of the newest settings, and check that they compare."""
    runs = sorted(runs, key=lambda run: run.record.started, reverse=True)
    settings = _without_seed(runs[0].record)
    by_seed: dict[int, Run] = {}
    for run in runs:
        if _without_seed(run.record) == settings:
            by_seed.setdefault(run.record.seed, run)
    if len(by_seed) < len(runs):
        n_older = len(runs) - len(by_seed)
        notes.append(f"{where}: {n_older} older runs of its cell are left out.")
    missing = [seed for seed in spec.seeds if seed not in by_seed]
    if missing:
        notes.append(f"{where}: no run with seed {', '.join(map(str, missing))}.")
    chosen = [by_seed[seed] for seed in sorted(by_seed)]
    problem = ""
    for what, values in (
        ("data files", [run.record.data.get("files") for run in chosen]),
        ("protocols", [run.record.protocol for run in chosen]),
        ("leaky and clean user profiles", [run.leaky for run in chosen]),
    ):
        if any(value != values[0] for value in values):
            problem = f"not averaged: different {what}"
            notes.append(f"{where}: {problem}.")
    return Cell(chosen, problem)


def _without_seed(record: RunRecord) -> str:
    from recbole_llm.config import VOLATILE_KEYS

    content = {k: v for k, v in record.config.items() if k not in VOLATILE_KEYS and k != "seed"}
    return json.dumps(content, sort_keys=True)


def _differences(by_key: Mapping[Key, Cell]) -> list[str]:
    """Name the frozen splits, and say where rows of a data set differ in what they should share."""
    notes = []
    for dataset in dict.fromkeys(key[0] for key in by_key):
        cells = [cell for key, cell in by_key.items() if key[0] == dataset]
        runs = [run for cell in cells for run in cell.runs]
        for what, found in (
            ("data files", {json.dumps(run.record.data.get("files")) for run in runs}),
            ("protocol", {run.record.protocol for run in runs}),
            (
                "whether histories are hidden",
                {run.record.config.get("mask_history") for run in runs},
            ),
            ("code version", {str(run.record.environment.get("git_commit")) for run in runs}),
        ):
            if len(found) > 1:
                notes.append(f"{dataset}: the rows differ in {what} ({len(found)} of them).")
        used = [
            run.record.data["frozen_split"] for run in runs if "frozen_split" in run.record.data
        ]
        for name, protocol, sha256 in sorted(
            {(it["name"], it["protocol"], it["sha256"]) for it in used}
        ):
            notes.append(f"{dataset}: frozen split {name} ({protocol}), sha256 {sha256[:12]}.")
        splits: dict[int, set[str]] = {}
        for run in runs:
            data = run.record.data
            frozen = data.get("frozen_split", {}).get("sha256")
            splits.setdefault(run.record.seed, set()).add(str(frozen or data.get("split")))
        if any(len(found) > 1 for found in splits.values()):
            notes.append(f"{dataset}: rows of the same seed were split differently.")
    return notes
