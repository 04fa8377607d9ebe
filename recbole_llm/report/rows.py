"""Rows of run records as a table: mean and spread over seeds, and a link to every record."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from recbole_llm.files import check_name
from recbole_llm.record import RunRecord
from recbole_llm.report.record_form import check_record
from recbole_llm.report.records import Run
from recbole_llm.report.statistics import mean_std
from recbole_llm.report.text import digits, short_metric
from recbole_llm.settings.fingerprint import VOLATILE_KEYS
from recbole_llm.sweep.validation import Entry

_NOT_EMPTY = Field(min_length=1)
_METRICS = ["recall@10", "recall@20", "ndcg@10", "ndcg@20"]


class Row(Entry):
    """A row of a table.

    Attributes:
        label: label in Markdown.
        runs: ids of the runs, one a seed.
        stage: name of an earlier stage of the runs, such as ``graph``, whose metrics are shown.
    """

    label: str
    runs: Annotated[list[str], _NOT_EMPTY]
    stage: str | None = None


class RowsTable(Entry):
    """A table; the runs of all its rows have one dataset, protocol, split and candidates."""

    rows: Annotated[list[Row], _NOT_EMPTY]
    metrics: Annotated[list[str], _NOT_EMPTY] = _METRICS


def rows_to_markdown(name: str, table: RowsTable, folder: Path, link: str) -> str:
    """Return a table in Markdown.

    Args:
        name: name of the table, for errors.
        table: rows and metrics.
        folder: folder of the records ``<run>.json``.
        link: path that leads from the page to that folder.

    Raises:
        ValueError: a record is damaged or unfinished, or runs do not compare.
        FileNotFoundError: a record does not exist.
    """
    read = [[_read(folder, run) for run in row.runs] for row in table.rows]
    _check_comparable(name, [run for runs in read for run in runs])
    heads = ["model", *map(short_metric, table.metrics), "seed", "record"]
    lines = [heads, ["---"] * len(heads)]
    for row, runs in zip(table.rows, read, strict=True):
        _check_row(row, runs)
        parts = [_metrics(row, run) for run in runs]
        cells = [_cell(row, parts, metric) for metric in table.metrics]
        seeds = ", ".join(str(run.record.seed) for run in runs)
        lines.append([row.label, *cells, seeds, _links(row.runs, link)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _read(folder: Path, name: str) -> Run:
    path = folder / f"{check_name('run', name)}.json"
    record = RunRecord.load(path)
    if record.status != "finished":
        raise ValueError(f"{path}: the run is {record.status}, and a row needs finished ones.")
    check_record(record)
    return Run(record, path)


def _check_comparable(name: str, runs: Sequence[Run]) -> None:
    """Refuse a table of runs on other data, another split, or another set of candidates."""
    first, *others = runs
    for run in others:
        for what, value, expected in _shared(run, first):
            if value != expected:
                raise ValueError(
                    f"table {name!r}: {run.record.id} has another {what} than {first.record.id}: "
                    f"{value}, and {expected}."
                )


def _shared(run: Run, first: Run) -> Iterator[tuple[str, Any, Any]]:
    record, other = run.record, first.record
    yield "dataset", record.dataset, other.dataset
    yield "protocol", record.protocol, other.protocol
    yield "mask_history", record.config.get("mask_history"), other.config.get("mask_history")
    files, known = record.data.get("files") or {}, other.data.get("files") or {}
    for file in sorted(set(files) & set(known)):
        yield f"checksum of {file}", files[file], known[file]
    if record.seed == other.seed:
        yield "split", record.data.get("split"), other.data.get("split")


def _check_row(row: Row, runs: Sequence[Run]) -> None:
    """Refuse a mean over runs that differ in more than their seeds."""
    first = runs[0].record
    if len({run.record.seed for run in runs}) < len(runs):
        raise ValueError(f"row {row.label!r}: two runs have the same seed.")
    if any(run.leaky for run in runs) and "LEAKY" not in row.label:
        raise ValueError(f"row {row.label!r}: its profiles leak; the label has to say LEAKY.")
    for run in runs:
        names = set(first.config) & set(run.record.config) - VOLATILE_KEYS - {"seed"}
        for key in ["model", *sorted(names)]:
            values = [
                getattr(record, key) if key == "model" else record.config[key]
                for record in (first, run.record)
            ]
            if values[0] != values[1]:
                raise ValueError(
                    f"row {row.label!r}: {key} is {values[0]} in {first.id} and {values[1]} in "
                    f"{run.record.id}."
                )


def _metrics(row: Row, run: Run) -> dict[str, float]:
    if row.stage is None:
        return run.record.metrics["test"]
    stages = {stage.name.partition(" ")[0]: stage.metrics for stage in run.record.stages}
    metrics = stages.get(row.stage, {})
    if "test" not in metrics:
        known = ", ".join(name for name, found in stages.items() if found)
        raise ValueError(
            f"row {row.label!r}: {run.record.id} has no stage {row.stage!r} with metrics; it has: "
            f"{known or 'none'}."
        )
    return metrics["test"]


def _cell(row: Row, parts: Sequence[dict[str, float]], metric: str) -> str:
    if any(metric not in part for part in parts):
        known = ", ".join(parts[0])
        raise ValueError(f"row {row.label!r}: a record has no {metric}; it has {known}.")
    mean, spread = mean_std([part[metric] for part in parts])
    return digits(mean) + (f" ± {digits(spread)}" if spread is not None else "")


def _links(names: Sequence[str], link: str) -> str:
    if len(names) == 1:
        return f"[record]({link}/{names[0]}.json)"
    return " ".join(f"[{i}]({link}/{name}.json)" for i, name in enumerate(names, 1))
