"""A table of metrics: means, ranks, improvement and significance, published numbers apart."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from recbole_llm.report.cells import Cell, Cells
from recbole_llm.report.hidden import hidden_note
from recbole_llm.report.published import read_published
from recbole_llm.report.records import Run
from recbole_llm.report.significance import Column, Comparison, compare_rows
from recbole_llm.report.statistics import improvement, smaller_is_better
from recbole_llm.sweep.spec import Row, Spec

_DEFAULT_METRICS = ["recall@10", "recall@20", "ndcg@10", "ndcg@20"]


@dataclasses.dataclass
class Number:
    """One number of a table.

    Attributes:
        mean: mean over seeds.
        std: sample standard deviation over seeds; None for a single seed or a published number.
        runs: the runs that it is the mean of; empty for a published number.
        rank: 1 or 2 for the best two of a column's clean measured rows, else 0.
        significant: whether it is above the strongest other row by both tests.
    """

    mean: float
    std: float | None = None
    runs: list[Run] = dataclasses.field(default_factory=list)
    rank: int = 0
    significant: bool = False


@dataclasses.dataclass
class Line:
    """A row of the table; ``numbers`` has None where no run or no published number exists."""

    label: str
    numbers: list[Number | None]
    published: bool = False
    leaky: bool = False
    has_image_words: bool = False
    budget: str = ""


@dataclasses.dataclass
class Table:
    """A table of metrics on the test part.

    Attributes:
        title: heading.
        columns: datasets and metrics, dataset by dataset.
        lines: rows, each with a number for every column.
        gains: improvement of the compared row over the best other row, in percent, by column.
        comparisons: the paired tests behind the significance marks.
        notes: sentences below the table.
        compare: label of the compared row, or None.
    """

    title: str
    columns: list[Column]
    lines: list[Line]
    gains: list[float | None]
    comparisons: list[Comparison]
    notes: list[str]
    compare: str | None

    @property
    def has_star(self) -> bool:
        """Whether a number is marked significant."""
        numbers = [number for line in self.lines for number in line.numbers]
        return any(number is not None and number.significant for number in numbers)


def build_table(spec: Spec, cells: Cells, metrics: Sequence[str] | None, title: str) -> Table:
    """Build the table of a spec's rows on the test part.

    Args:
        spec: the experiment.
        cells: its runs.
        metrics: metrics of each dataset, such as ``recall@20``; None: all that were measured.
        title: heading of the table.

    Raises:
        ValueError: the published numbers that the spec names cannot be read.
    """
    names = list(metrics or _measured_metrics(cells) or _DEFAULT_METRICS)
    columns = [Column(dataset, metric) for dataset in spec.datasets for metric in names]
    lines, notes = _lines(spec, cells, columns)
    clean = [line for line in lines if not line.published and not line.leaky]
    for i, column in enumerate(columns):
        _rank([line.numbers[i] for line in clean], smaller_is_better(column.metric))
    rows = {row.label: row for row in spec.rows}
    comparisons: list[Comparison] = []
    if spec.compare in [line.label for line in clean]:
        others = [rows[line.label] for line in clean if line.label != spec.compare]
        comparisons, untested = compare_rows(cells, columns, rows[str(spec.compare)], others)
        if untested:
            notes.append(
                f"Not tested for significance, because the runs have no lists of the same users "
                f"and seeds (--save_topk keeps lists): {spec.compare} against "
                f"{', '.join(untested)}."
            )
    gains = _compare(spec.compare, columns, clean, comparisons)
    hidden = _hidden(spec, cells, lines)
    notes += [hidden] if hidden else []
    if any(line.leaky for line in lines):
        notes.append(
            "LEAKY: the row's user profiles were written from held-out interactions; it is not "
            "ranked, compared or tested."
        )
    if any(line.has_image_words for line in lines):
        notes.append(
            "(image words): in the row's user profiles, images are described by the five most "
            "likely ImageNet class names, and not by a vision-language model."
        )
    return Table(title, columns, lines, gains, comparisons, notes, spec.compare)


def _measured_metrics(cells: Cells) -> list[str]:
    measured = [run.record.metrics.get("test") for run in cells.runs()]
    return next((list(metrics) for metrics in measured if metrics), [])


def _lines(spec: Spec, cells: Cells, columns: Sequence[Column]) -> tuple[list[Line], list[str]]:
    """Return each measured row followed by its published one, then the other published rows."""
    published = read_published(spec)
    if published is None:
        return [_measured_line(cells, row, columns) for row in spec.rows], []
    notes = [published.source]
    rows = dict(published.rows)
    lines: list[Line] = []
    for row in spec.rows:
        lines.append(_measured_line(cells, row, columns))
        values = rows.pop(row.published or row.label, None)
        if values:
            lines.append(_published_line(row.label, values, columns))
    lines += [_published_line(label, values, columns) for label, values in rows.items()]
    lines = [line for line in lines if not line.published or any(line.numbers)]
    if not any(line.published for line in lines):
        notes.append(f"The paper has no numbers for {', '.join(spec.datasets)} in this table.")
    return lines, notes


def _hidden(spec: Spec, cells: Cells, lines: Sequence[Line]) -> str:
    runs = {
        row.label: [run for dataset in spec.datasets for run in cells.get(dataset, row).runs]
        for row in spec.rows
    }
    published = read_published(spec) if any(line.published for line in lines) else None
    return hidden_note(runs, published.hides if published else None)


def _measured_line(cells: Cells, row: Row, columns: Sequence[Column]) -> Line:
    numbers: list[Number | None] = []
    of_row = [cells.get(column.dataset, row) for column in columns]
    for column, cell in zip(columns, of_row, strict=True):
        stats = cell.mean_std("test", column.metric)
        numbers.append(None if stats is None else Number(stats[0], stats[1], cell.runs))
    return Line(
        row.label,
        numbers,
        leaky=any(cell.leaky for cell in of_row),
        has_image_words=any(cell.has_image_words for cell in of_row),
        budget=_budget(of_row),
    )


def _budget(cells: Sequence[Cell]) -> str:
    budgets = [run.record.origin.get("budget", {}) for cell in cells for run in cell.runs]
    texts = [
        f"{budget['n_trials']} {budget.get('sampler') or ''}".strip()
        if budget.get("n_trials")
        else "none"
        for budget in budgets
    ]
    return ", ".join(dict.fromkeys(texts)) or "-"


def _published_line(
    label: str, values: dict[str, dict[str, Any]], columns: Sequence[Column]
) -> Line:
    numbers: list[Number | None] = []
    for column in columns:
        value = values.get(column.dataset, {}).get(column.metric)
        if isinstance(value, str):
            raise ValueError(
                f"published: {label}, {column.dataset}, {column.metric} must be a number, got "
                f"{value!r}; a value that the paper leaves out is ~."
            )
        numbers.append(None if value is None else Number(float(value)))
    return Line(label, numbers, published=True)


def _rank(numbers: Sequence[Number | None], smaller: bool) -> None:
    """Give rank 1 to the best value and rank 2 to the second; equal values have equal ranks."""
    present = [number for number in numbers if number is not None]
    heights = sorted({number.mean for number in present}, reverse=not smaller)[:2]
    if len(present) > 1:
        for number in present:
            number.rank = heights.index(number.mean) + 1 if number.mean in heights else 0


def _compare(
    compare: str | None,
    columns: Sequence[Column],
    lines: Sequence[Line],
    comparisons: Sequence[Comparison],
) -> list[float | None]:
    """Return the gain of the compared row on each column, and mark where it is significant."""
    ours = next((line for line in lines if line.label == compare), None)
    significant = {(test.column, test.other) for test in comparisons if test.is_significant}
    gains: list[float | None] = []
    for i, column in enumerate(columns):
        number = ours.numbers[i] if ours else None
        others = [
            (other.mean, line.label)
            for line in lines
            if line is not ours and (other := line.numbers[i]) is not None
        ]
        if number is None or not others:
            gains.append(None)
            continue
        smaller = smaller_is_better(column.metric)
        mean, label = (min if smaller else max)(others, key=lambda pair: pair[0])
        gains.append(improvement(number.mean, mean, smaller))
        is_best = number.mean < mean if smaller else number.mean > mean
        number.significant = is_best and (column, label) in significant
    return gains
