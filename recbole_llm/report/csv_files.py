"""The numbers of a report as CSV, unrounded: tables, p-values, and the points of figures.

A text that a spreadsheet would take for a formula has an apostrophe before it.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from recbole_llm.report.cells import Cell, Cells
from recbole_llm.report.table import Line, Number, Table
from recbole_llm.sweep.spec import Spec

_TABLE_HEADS = (
    "row source dataset metric mean std n_seeds rank significant leaky trials records".split()
)
_BREAK = "\r\n"
_FORMULA = "=+-@\t\r\n"  # first characters of what a spreadsheet computes
_TEST_HEADS = "row against dataset metric n_users p_wilcoxon_holm p_t_holm".split()


def tables_to_csv(tables: Sequence[Table]) -> str:
    """Return one line for each number, with the ids of its records; headings for each table."""
    return "".join(to_csv([_TABLE_HEADS, *_numbers(table)]) for table in tables)


def _numbers(table: Table) -> Iterable[list[object]]:
    for line in table.lines:
        for column, number in zip(table.columns, line.numbers, strict=True):
            kind = "published" if line.published else "measured"
            yield [line.label, kind, *column, *_values(number, line)]


def _values(number: Number | None, line: Line) -> list[object]:
    if number is None:
        return ["", "", 0, "", "", int(line.leaky), line.budget, ""]
    std = "" if number.std is None else number.std
    ids = " ".join(run.record.id for run in number.runs)
    values = [number.mean, std, len(number.runs), number.rank or "", int(number.significant)]
    return [*values, int(line.leaky), line.budget, ids]


def has_same_runs(path: Path, tables: Sequence[Table]) -> bool:
    """Return whether an earlier ``tables.csv`` has these numbers, of the same records."""
    try:
        earlier = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return _identity(earlier) == _identity(tables_to_csv(tables))


def _identity(text: str) -> list[list[str | None]]:
    keys = "row source dataset metric mean n_seeds records".split()
    return [[line.get(key) for key in keys] for line in csv.DictReader(io.StringIO(text))]


def comparisons_to_csv(tables: Sequence[Table]) -> str:
    """Return the p-values behind the significance marks; nothing if no test was made."""
    rows = [
        [table.compare, test.other, *test.column, test.n_users, test.wilcoxon, test.t]
        for table in tables
        for test in table.comparisons
    ]
    return to_csv([_TEST_HEADS, *rows]) if rows else ""


def points_to_csv(spec: Spec, cells: Cells) -> str:
    """Return one line for each point of a spec's grid, part and metric that was measured."""
    keys = list(dict.fromkeys(key for point in spec.grid for key in point))
    rows: list[list[object]] = [
        ["dataset", "row", *keys, "part", "metric", "mean", "std", "n_seeds"]
    ]
    for dataset in spec.datasets:
        for row in spec.rows:
            for point in spec.grid:
                where = [dataset, row.label, *(point.get(key, "") for key in keys)]
                rows += [[*where, *values] for values in _means(cells.get(dataset, row, point))]
    return to_csv(rows)


def _means(cell: Cell) -> Iterable[list[object]]:
    for part, metrics in cell.runs[0].record.metrics.items() if cell.runs else []:
        for metric in metrics:
            stats = cell.mean_std(part, metric)
            if stats is not None:
                mean, std = stats
                yield [part, metric, mean, "" if std is None else std, len(cell.runs)]


def to_csv(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV: numbers stay numbers, and no text is a formula."""
    return "".join(map(_line, rows))


def _line(row: Sequence[object]) -> str:
    out = io.StringIO()  # the writer quotes a line break only if it is one of its own
    csv.writer(out, lineterminator=_BREAK).writerow(map(_plain, row))
    return f"{out.getvalue().removesuffix(_BREAK)}\n"


def _plain(cell: object) -> object:
    is_formula = isinstance(cell, str) and len(cell) > 1 and cell[0] in _FORMULA
    return f"'{cell}" if is_formula else cell
