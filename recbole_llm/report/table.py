"""The table of a report: means, ranks, improvement, significance, and published numbers apart."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recbole_llm.report.cells import Cell, Cells, Run
from recbole_llm.report.statistics import holm, improvement, paired_tests, user_metric
from recbole_llm.sweep.spec import Row, Spec
from recbole_llm.yaml_io import read_yaml

SIGNIFICANT = 0.05


@dataclasses.dataclass
class Number:
    """One number of a table. ``rank``: 1 or 2 among the clean measured rows, else 0."""

    mean: float
    std: float | None = None
    runs: list[Run] = dataclasses.field(default_factory=list)
    rank: int = 0
    significant: bool = False


class Column(NamedTuple):
    """A data set and a metric."""

    dataset: str
    metric: str


@dataclasses.dataclass
class Line:
    """A row of the table; ``numbers`` has None where there is no run or no published number."""

    label: str
    numbers: list[Number | None]
    published: bool = False
    leaky: bool = False
    budget: str = ""


class Test(NamedTuple):
    """The compared row against another, on one column; p-values adjusted over the table."""

    column: Column
    other: str
    n_users: int
    wilcoxon: float
    t: float


@dataclasses.dataclass
class Table:
    """A table of metrics. ``gains`` is the improvement in percent over the best other row."""

    title: str
    columns: list[Column]
    lines: list[Line]
    gains: list[float | None]
    tests: list[Test]
    notes: list[str]
    compare: str | None


def build_table(spec: Spec, cells: Cells, metrics: Sequence[str] | None, title: str) -> Table:
    """Build the table of a spec's rows on the test part."""
    notes: list[str] = []
    names = list(metrics or _measured(cells) or ["recall@10", "recall@20", "ndcg@10", "ndcg@20"])
    columns = [Column(dataset, metric) for dataset in spec.datasets for metric in names]
    published = read_published(spec, notes)
    lines: list[Line] = []
    for row in spec.rows:
        lines.append(_measured_line(spec, cells, row, columns))
        theirs = published.pop(row.published or row.label, None)
        if theirs:
            lines.append(_published_line(row.label, theirs, columns))
    lines += [_published_line(label, theirs, columns) for label, theirs in published.items()]
    lines = [line for line in lines if not line.published or any(line.numbers)]
    if spec.published and not any(line.published for line in lines):
        notes.append(f"The paper has no numbers for {', '.join(spec.datasets)} in this table.")
    clean = [line for line in lines if not line.published and not line.leaky]
    for i in range(len(columns)):
        _rank([line.numbers[i] for line in clean])
    tests = _test(spec, cells, columns, clean, notes)
    _mark(spec, columns, clean, tests)
    gains = [_gain(spec, clean, i) for i in range(len(columns))]
    if any(line.leaky for line in lines):
        notes.append(
            "LEAKY: the row's user profiles were written from held-out interactions; it is not "
            "ranked, compared or tested."
        )
    return Table(title, columns, lines, gains, tests, notes, spec.compare)


def _measured(cells: Cells) -> list[str]:
    for cell in cells.by_key.values():
        for run in cell.runs:
            if run.record.metrics.get("test"):
                return list(run.record.metrics["test"])
    return []


def _measured_line(spec: Spec, cells: Cells, row: Row, columns: Sequence[Column]) -> Line:
    numbers: list[Number | None] = []
    found: list[Cell] = []
    for column in columns:
        cell = cells.get(column.dataset, row)
        found.append(cell)
        stats = cell.mean_std("test", column.metric)
        numbers.append(None if stats is None else Number(stats[0], stats[1], cell.runs))
    return Line(
        row.label, numbers, leaky=any(cell.leaky for cell in found), budget=_budget(spec, found)
    )


def _budget(spec: Spec, cells: Sequence[Cell]) -> str:
    budgets = [run.record.origin.get("budget", {}) for cell in cells for run in cell.runs]
    texts = dict.fromkeys(
        f"{it['n_trials']} {it['sampler']}" if it.get("n_trials") else "none" for it in budgets
    )
    return ", ".join(texts) or "-"


def _published_line(label: str, theirs: dict[str, Any], columns: Sequence[Column]) -> Line:
    values = [theirs.get(column.dataset, {}).get(column.metric) for column in columns]
    return Line(label, [None if v is None else Number(float(v)) for v in values], published=True)


def read_published(spec: Spec, notes: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Return a published table by row, data set and metric; its place in the paper is noted.

    Raises:
        ValueError: the file has no such table, or a row of another length than its columns.
    """
    if not spec.published:
        return {}
    file, _, name = spec.published.partition("/")
    path = published_folder(spec) / f"{file}.yaml"
    content = read_yaml(path) if path.is_file() else {}
    table = (content.get("tables") or {}).get(name)
    if table is None:
        raise ValueError(f"published: {path} has no table {name!r}.")
    columns = table["columns"]
    notes.append(
        f"Published: {content['paper']}, {table['where']}. {table.get('note', '')}".strip()
    )
    found: dict[str, dict[str, dict[str, float]]] = {}
    for label, by_dataset in table["rows"].items():
        for dataset, values in by_dataset.items():
            if len(values) != len(columns):
                raise ValueError(
                    f"{path}, {name}, {label}, {dataset}: {len(values)} values for "
                    f"{len(columns)} columns."
                )
            pairs = zip(columns, values, strict=True)
            found.setdefault(label, {})[dataset] = {k: v for k, v in pairs if v is not None}
    return found


def published_folder(spec: Spec) -> Path:
    """Return where published numbers are kept: beside the folder of the spec."""
    return spec.path.resolve().parent.parent / "published"


def _rank(numbers: Sequence[Number | None]) -> None:
    """Number the best value 1 and the second 2, ties alike."""
    present = [number for number in numbers if number is not None]
    heights = sorted({number.mean for number in present}, reverse=True)[:2]
    if len(present) > 1:
        for number in present:
            number.rank = heights.index(number.mean) + 1 if number.mean in heights else 0


def _strongest(spec: Spec, lines: Sequence[Line], i: int) -> tuple[Number, Line] | None:
    """Return the best number of a column among the rows that are compared with."""
    others = [(n, line) for line in lines if line.label != spec.compare and (n := line.numbers[i])]
    return max(others, key=lambda pair: pair[0].mean, default=None)


def _ours(spec: Spec, lines: Sequence[Line]) -> Line | None:
    return next((line for line in lines if line.label == spec.compare), None)


def _gain(spec: Spec, lines: Sequence[Line], i: int) -> float | None:
    ours, best = _ours(spec, lines), _strongest(spec, lines, i)
    number = ours.numbers[i] if ours else None
    return improvement(number.mean, best[0].mean) if number and best else None


def _test(
    spec: Spec, cells: Cells, columns: Sequence[Column], lines: Sequence[Line], notes: list[str]
) -> list[Test]:
    """Test the compared row against every other on every column, adjusted over all of them."""
    ours = next((row for row in spec.rows if row.label == spec.compare), None)
    if ours is None or _ours(spec, lines) is None:
        return []
    raw: list[Test] = []
    untested = set()
    for column in columns:
        mine = cells.get(column.dataset, ours)
        for line in lines:
            row = next(row for row in spec.rows if row.label == line.label)
            theirs = cells.get(column.dataset, row)
            if row is ours or not mine.values("test", column.metric) or not theirs.runs:
                continue
            pair = _paired(mine, theirs, column.metric)
            if pair is None:
                untested.add(f"{row.label} on {column.dataset}")
                continue
            raw.append(Test(column, row.label, len(pair[0]), *paired_tests(*pair)))
    if untested:
        notes.append(
            "Not tested for significance, for want of lists of the same users and seeds (runs with "
            f"--save_topk): {spec.compare} against {', '.join(sorted(untested))}."
        )
    wilcoxon = holm([it.wilcoxon for it in raw])
    t = holm([it.t if np.isfinite(it.t) else 1.0 for it in raw])
    return [it._replace(wilcoxon=w, t=p) for it, w, p in zip(raw, wilcoxon, t, strict=True)]


def _paired(
    mine: Cell, theirs: Cell, metric: str
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
    """Return both rows' metric of each user, averaged over the seeds that both have."""
    by_seed = {run.record.seed: run for run in theirs.runs}
    sums: dict[str, list[tuple[float, float]]] = {}
    for run in mine.runs:
        other = by_seed.get(run.record.seed)
        if other is None:
            continue
        if other.record.data.get("split") != run.record.data.get("split"):
            return None
        values = user_metric(lists_of(run), metric), user_metric(lists_of(other), metric)
        if values[0] is None or values[1] is None or set(values[0]) != set(values[1]):
            return None
        for user, value in values[0].items():
            sums.setdefault(user, []).append((value, values[1][user]))
    if not sums:
        return None
    means = np.array([np.mean(sums[user], axis=0) for user in sorted(sums)])  # (n_users, 2)
    return means[:, 0], means[:, 1]


def lists_of(run: Run) -> Path:
    """Return where a run's test lists are: beside its record."""
    if run.path.name == "record.json":
        return run.path.with_name("topk-test.jsonl")
    return run.path.with_suffix(".topk-test.jsonl")


def _mark(
    spec: Spec, columns: Sequence[Column], lines: Sequence[Line], tests: Sequence[Test]
) -> None:
    """Mark the compared row where it is above the strongest other and both tests agree."""
    ours = _ours(spec, lines)
    for i, column in enumerate(columns):
        best = _strongest(spec, lines, i)
        number = ours.numbers[i] if ours else None
        if number is None or best is None or number.mean <= best[0].mean:
            continue
        for test in tests:
            if test.column == column and test.other == best[1].label:
                number.significant = max(test.wilcoxon, test.t) < SIGNIFICANT
