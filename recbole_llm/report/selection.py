"""Which runs belong to a cell of a table: those of its row's settings, with metrics to trust."""

from collections.abc import Mapping, Sequence

from recbole_llm.record import RunRecord
from recbole_llm.report.comparability import shortened
from recbole_llm.report.list_check import find_disagreement
from recbole_llm.report.records import Run
from recbole_llm.report.row_settings import RowSettings
from recbole_llm.sweep.space import Value
from recbole_llm.sweep.spec import Row, Spec

_MOST = 4  # differences that a note on a run that is left out names


class Selection:
    """The choice of runs for the cells of a spec, and the notes on it.

    Args:
        spec: experiment.
        runs: all finished runs.
    """

    def __init__(self, spec: Spec, runs: Sequence[Run]) -> None:
        self.spec, self.runs = spec, runs
        self._notes: dict[str, None] = {}
        self._disagreements: dict[str, str] = {}
        self._differences: dict[str, tuple[str, list[str]]] = {}  # by the id of the run

    def choose(self, row: Row, dataset: str, point: Mapping[str, Value], where: str) -> list[Run]:
        """Return the runs of a cell: those with the spec's settings first, then the newer first.

        Args:
            row: line of the spec.
            dataset: name of a dataset of the spec.
            point: point of the spec's grid.
            where: name of the cell in notes.
        """
        settings = RowSettings(self.spec, row, dataset, point)
        swept, single = [], []
        for run in self.runs:
            record = run.record
            if record.dataset != dataset:
                continue
            if record.origin:
                if _names_cell(record, self.spec, row, point) and self._is_true(run):
                    swept.append(run)
            elif not row.space and record.model == row.model and record.seed in self.spec.seeds:
                single.append(run)
        for run in swept:
            self._compare(run, settings, where)
        swept += [run for run in self._of_row(single, settings, where) if self._is_true(run)]
        newest = sorted(swept, key=lambda run: run.record.started, reverse=True)
        return sorted(newest, key=lambda run: bool(self._differing(run)))

    def notes(self, shown: Sequence[Run]) -> list[str]:
        """Return notes on the settings of the runs that are shown, and on runs left out."""
        cells_of: dict[str, list[str]] = {}
        for run in shown:
            where, _ = self._differences.get(run.record.id, ("", []))
            for text in self._differing(run):
                cells_of.setdefault(text, []).append(where)
        differing = [
            f"Not the spec's settings: {text} ({shortened(cells)})."
            for text, cells in cells_of.items()
        ]
        return [*differing, *self._notes]

    def _differing(self, run: Run) -> list[str]:
        return self._differences.get(run.record.id, ("", []))[1]

    def _is_true(self, run: Run) -> bool:
        """Whether the metrics of a run are those of its lists; if not, a note says so."""
        name = run.record.id
        if name not in self._disagreements:
            self._disagreements[name] = find_disagreement(run)
        found = self._disagreements[name]
        if found:
            self._notes[f"left out: run {name}, whose metrics are not to be trusted: {found}."] = (
                None
            )
        return not found

    def _compare(self, run: Run, settings: RowSettings, where: str) -> None:
        """Note which settings of a sweep's final run are not the spec's."""
        record = run.record
        found = self._try(settings, record, defaults=True) or []
        if record.seed not in self.spec.seeds:
            found.append(f"seed is {record.seed}, spec {', '.join(map(str, self.spec.seeds))}")
        if record.model != settings.row.model:
            found.append(f"model is {record.model}, spec {settings.row.model}")
        self._differences[record.id] = (where, found)

    def _of_row(self, runs: Sequence[Run], settings: RowSettings, where: str) -> list[Run]:
        """Return those of some runs that have all settings of a row; a note names a near one."""
        chosen, near = [], []
        for run in runs:
            given = self._try(settings, run.record, defaults=False)
            if given:
                continue
            found = self._try(settings, run.record, defaults=True)
            if found:
                near.append((run.record, found))
            elif found is not None:
                chosen.append(run)
        if near:
            record, found = max(near, key=lambda pair: pair[0].started)
            more = f" and {len(found) - _MOST} more differences" if len(found) > _MOST else ""
            self._notes[
                f"{where}: {len(near)} runs that were started by themselves are left out, because "
                f"they have other settings. Run {record.id}: {'; '.join(found[:_MOST])}{more}."
            ] = None
        return chosen

    def _try(self, settings: RowSettings, record: RunRecord, defaults: bool) -> list[str] | None:
        """Return the differences; None, with a note, if the spec cannot be resolved here."""
        try:
            return settings.differences(record, defaults)
        except (ValueError, OSError, ImportError) as error:
            self._notes[f"Settings were not compared with the spec's. {error}"] = None
            return None


def _names_cell(record: RunRecord, spec: Spec, row: Row, point: Mapping[str, Value]) -> bool:
    """Whether a record of a sweep says that it is a final run of a cell."""
    expected = [spec.name, spec.profile, row.label, "final", dict(point)]
    return [record.origin[key] for key in ("sweep", "profile", "row", "kind", "point")] == expected
