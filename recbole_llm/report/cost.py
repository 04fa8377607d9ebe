"""Tables of costs: seconds, memory and trained parameters of each stage of each row."""

from recbole_llm.record import RunRecord
from recbole_llm.report.cells import Cells
from recbole_llm.report.contents import PlainTable
from recbole_llm.report.published import read_published
from recbole_llm.report.text import NO_RUN
from recbole_llm.sweep.spec import Spec

_HEADS = ["dataset", "model", "stage", "seconds", "peak MiB", "trainable", "of all", "device"]


def cost_tables(spec: Spec, cells: Cells, title: str) -> list[PlainTable]:
    """Return the measured table, and the paper's own one if the spec names it.

    Each row of a spec shows the run of its first seed; a stage from the cache shows the seconds
    that it took when it was trained.
    """
    rows: list[list[str]] = []
    for dataset in spec.datasets:
        for row in spec.rows:
            runs = cells.get(dataset, row).runs
            if runs:
                rows += [[dataset, row.label, *stage] for stage in _stages(runs[0].record)]
            else:
                rows.append([dataset, row.label, NO_RUN, "", "", "", "", ""])
    return [PlainTable(title, _HEADS, rows, "cost"), *_published_cost(spec)]


def _stages(record: RunRecord) -> list[list[str]]:
    rows = []
    for stage in record.stages:
        seconds = stage.seconds if stage.cached_from_s is None else stage.cached_from_s
        counts = ["", ""]
        if stage.parameters:
            counts = [f"{stage.trainable}", f"{stage.trainable / stage.parameters:.2%}"]
        size = f"{stage.peak_bytes / 2**20:.0f}"
        device = str(record.environment.get("device", ""))
        rows.append([stage.name, f"{seconds:.1f}", size, *counts, device])
    return rows


def _published_cost(spec: Spec) -> list[PlainTable]:
    """Return the paper's own table of costs, as it is printed there."""
    published = read_published(spec)
    if published is None or not published.rows:
        return []
    rows = [
        (dataset, label, values)
        for label, by_dataset in published.rows.items()
        for dataset, values in by_dataset.items()
    ]
    heads = ["dataset", "model", *rows[0][2]]
    texts = [[dataset, label, *map(str, values.values())] for dataset, label, values in rows]
    return [PlainTable(published.source, heads, texts, "cost")]
