"""Tables of what an experiment stands on: data set sizes, search space, chosen settings."""

from collections.abc import Sequence
from typing import Any

from recbole_llm.record import RunRecord
from recbole_llm.report.cells import Cells
from recbole_llm.report.contents import PlainTable
from recbole_llm.report.records import Run
from recbole_llm.report.row_settings import look_up
from recbole_llm.sweep.space import Parameter
from recbole_llm.sweep.spec import Row, Spec

_DATA_HEADS = (
    "dataset;users;items;interactions;density;train;valid;test;valid unreachable;test unreachable"
).split(";")
_UNREACHABLE = (
    "Unreachable: held-out interactions whose item or user has no training interaction, so that "
    "no model reaches them by co-occurrence. Sizes are those of the first seed's split."
)
_UNKNOWN = "not recorded"


def setup_tables(spec: Spec, cells: Cells) -> list[PlainTable]:
    """Return the tables of data sets, of the search space, and of the chosen settings."""
    tables = [_data_table(spec, cells)]
    if any(row.space for row in spec.rows):
        tables += [_search_table(spec), _chosen_table(spec, cells)]
    elif any(spec.settings_of(row) for row in spec.rows):
        tables.append(_fixed_table(spec))
    return [table for table in tables if table.rows]


def _data_table(spec: Spec, cells: Cells) -> PlainTable:
    rows = []
    for dataset in spec.datasets:
        runs = [run for key, cell in cells.by_key.items() if key[0] == dataset for run in cell.runs]
        if runs:
            rows.append([dataset, *_sizes(runs)])
    return PlainTable("Data", _DATA_HEADS, rows, "data", _UNREACHABLE)


def _sizes(runs: Sequence[Run]) -> list[str]:
    first = min(runs, key=lambda run: run.record.seed).record
    counts = [first.data.get(name) for name in ("n_users", "n_items")]
    parts: Any = first.data.get("n_interactions")
    if not (all(isinstance(n, int) and n > 0 for n in counts) and _are_counts(parts)):
        return [_UNKNOWN, *[""] * (len(_DATA_HEADS) - 2)]
    n_users, n_items, total = *map(int, filter(None, counts)), sum(parts)
    density = f"{total / (n_users * n_items):.3%}"
    unreachable = [_unreachable(first, runs, part) for part in ("valid", "test")]
    return [*map(str, (n_users, n_items, total)), density, *map(str, parts), *unreachable]


def _are_counts(parts: Any) -> bool:
    return (
        isinstance(parts, list) and len(parts) == 3 and all(isinstance(part, int) for part in parts)
    )


def _unreachable(first: RunRecord, runs: Sequence[Run], part: str) -> str:
    """Return the number of cold held-out interactions, from any run on the same split."""
    for run in runs:
        groups = run.record.metrics_cold.get(part)
        if groups is None or run.record.data.get("split") != first.data.get("split"):
            continue
        counts = {
            name: int(groups.get(f"cold_{name}", {}).get("n_interactions", 0))
            for name in ("items", "users")
        }
        known = [f"{n} by {name}" for name, n in counts.items() if n]
        return ", ".join(known) or "0"
    return _UNKNOWN


def _search_table(spec: Spec) -> PlainTable:
    """Return the space of each row and its budget, the rows without a space too."""
    rows = []
    for row in spec.rows:
        budget = row.n_trials or (spec.search.n_trials if spec.search else None)
        trials = str(budget or "all points") if row.space else "none"
        rows += [[row.label, p.name, _range(p), trials] for p in row.space] or [
            [row.label, "none", "", trials]
        ]
    return PlainTable("Search space", ["model", "setting", "values", "trials"], rows, "search")


def _range(parameter: Parameter) -> str:
    if parameter.kind == "choice":
        text = ", ".join(map(_value, parameter.choices))
    else:
        text = f"{_value(parameter.low)} to {_value(parameter.high)}"
        text += f", step {_value(parameter.step)}" if parameter.step else ""
        text += ", logarithmic" if parameter.log else ""
    when = " and ".join(
        f"{name} = {' or '.join(map(_value, values))}" for name, values in parameter.when
    )
    return f"{text} (if {when})" if when else text


def _chosen_table(spec: Spec, cells: Cells) -> PlainTable:
    """Return the configuration that validation chose for each row and dataset."""
    rows = []
    for dataset in spec.datasets:
        for row in spec.rows:
            runs = cells.get(dataset, row).runs
            if runs and row.space:
                rows.append([dataset, row.label, _chosen(row, runs[0].record)])
    heads = ["dataset", "model", "chosen on validation"]
    return PlainTable("Chosen settings", heads, rows, "chosen")


def _chosen(row: Row, record: RunRecord) -> str:
    found = {parameter.name: look_up(record.config, parameter.name) for parameter in row.space}
    return ", ".join(
        f"{parameter.name} = {_value(found[parameter.name])}"
        for parameter in row.space
        if parameter.applies(found)
    )


def _fixed_table(spec: Spec) -> PlainTable:
    """Return the settings that the spec fixes for each row; the others have their defaults."""
    rows = []
    for row in spec.rows:
        settings = {k: v for k, v in spec.settings_of(row).items() if k != "config_files"}
        text = ", ".join(f"{name} = {_value(value)}" for name, value in settings.items())
        rows.append([row.label, text])
    return PlainTable("Settings of the spec", ["model", "settings"], rows, "chosen")


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
