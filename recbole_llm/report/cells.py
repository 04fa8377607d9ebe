"""Which run records belong to which cell of a table, and whether they may be averaged."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from recbole_llm.record import RunRecord
from recbole_llm.report.comparability import dataset_notes, environment_notes
from recbole_llm.report.records import Run
from recbole_llm.report.selection import Selection
from recbole_llm.report.statistics import mean_std
from recbole_llm.settings.fingerprint import VOLATILE_KEYS
from recbole_llm.sweep.space import Value
from recbole_llm.sweep.spec import Row, Spec


@dataclasses.dataclass
class Cell:
    """The runs of one row on one dataset at one point of the grid, one run for each seed.

    Attributes:
        runs: the runs, in ascending order of their seeds.
        problem: the reason why the runs are not averaged, or an empty text.
    """

    runs: list[Run]
    problem: str = ""

    @property
    def leaky(self) -> bool:
        """Whether a run is leaky; a cell with leaky and clean runs has a ``problem``."""
        return any(run.leaky for run in self.runs)

    @property
    def has_image_words(self) -> bool:
        """Whether a run's profiles have class names in place of images' descriptions."""
        return any(run.has_image_words for run in self.runs)

    def values(self, part: str, metric: str) -> list[float]:
        """Return the metric of each run that measured it; an empty list if there is a problem."""
        measured = [run.record.metrics.get(part, {}).get(metric) for run in self.runs]
        return [] if self.problem else [value for value in measured if value is not None]

    def mean_std(self, part: str, metric: str) -> tuple[float, float | None] | None:
        """Return mean and standard deviation over seeds, or None without a value."""
        values = self.values(part, metric)
        return mean_std(values) if values else None


Key = tuple[str, str, str]


class Cells(NamedTuple):
    """All cells of a spec that have a run.

    Attributes:
        by_key: cells by dataset, label of the row, and point of the grid as text.
        notes: sentences for the reader of the report, such as which seeds are missing.
    """

    by_key: dict[Key, Cell]
    notes: list[str]

    def get(self, dataset: str, row: Row, point: Mapping[str, Value] | None = None) -> Cell:
        """Return a cell; an empty one if there is no run."""
        return self.by_key.get((dataset, row.label, _text(point or {})), Cell([]))

    def runs(self) -> list[Run]:
        """Return the runs of all cells, each once, in the order of the cells."""
        runs = [run for cell in self.by_key.values() for run in cell.runs]
        return list({run.record.id: run for run in runs}.values())


def profiles_with_runs(spec: Spec, runs: Iterable[Run]) -> list[str]:
    """Return the profiles of a spec for which a sweep has final runs, the paper's first."""
    origins = [run.record.origin for run in runs]
    swept = {
        origin["profile"]
        for origin in origins
        if origin.get("sweep") == spec.name and origin["kind"] == "final"
    }
    return [profile for profile in spec.profiles if profile in swept]


def collect(spec: Spec, runs: Sequence[Run]) -> Cells:
    """Put runs into the cells of a spec.

    The final run of a sweep names its cell, and a note says which of its settings are not the
    spec's. A run that was started by itself belongs to a row that is not searched, if it has the
    row's model, dataset, one of the seeds, and no other setting than the row's runs have. A run
    whose metrics are not those of its ranked lists belongs to no cell.
    """
    by_key: dict[Key, Cell] = {}
    selection = Selection(spec, runs)
    notes: list[str] = []
    for dataset in spec.datasets:
        for row in spec.rows:
            for point in spec.grid:
                where = f"{row.label} on {dataset}{' at ' + _text(point) if point else ''}"
                chosen = selection.choose(row, dataset, point, where)
                if chosen:
                    cell, cell_notes = _cell(chosen, spec, where)
                    by_key[dataset, row.label, _text(point)] = cell
                    notes += cell_notes
    for dataset in dict.fromkeys(dataset for dataset, _, _ in by_key):
        cells = [cell for key, cell in by_key.items() if key[0] == dataset]
        notes += dataset_notes(dataset, [run for cell in cells for run in cell.runs])
    found = Cells(by_key, [])
    shown = found.runs()
    return Cells(by_key, [*notes, *environment_notes(shown), *selection.notes(shown)])


def _text(point: Mapping[str, Any]) -> str:
    return json.dumps(dict(point), sort_keys=True) if point else ""


def _cell(runs: Sequence[Run], spec: Spec, where: str) -> tuple[Cell, list[str]]:
    """Keep the first run of each seed, of the settings of the first, and check their data.

    Args:
        runs: the cell's runs, the one that is to be shown first.
        spec: the experiment.
        where: name of the cell.
    """
    notes = []
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
    for name, values in (
        ("data files", [run.record.data.get("files") for run in chosen]),
        ("protocols", [run.record.protocol for run in chosen]),
        ("leaky and clean user profiles", [run.leaky for run in chosen]),
        ("descriptions of images", [run.has_image_words for run in chosen]),
    ):
        if any(value != values[0] for value in values):
            problem = f"not averaged: different {name}"
            notes.append(f"{where}: {problem}.")
    return Cell(chosen, problem), notes


def _without_seed(record: RunRecord) -> str:
    content = {k: v for k, v in record.config.items() if k not in VOLATILE_KEYS and k != "seed"}
    return json.dumps(content, sort_keys=True)
