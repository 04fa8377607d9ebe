"""Whether a record's metrics are those of the ranked lists next to it."""

from pathlib import Path

from recbole_llm.report.records import Run
from recbole_llm.report.user_metrics import read_hits
from recbole_llm.runs.rankings import rankings_path
from recbole_llm.runs.rounding import Rounding


def find_disagreement(run: Run) -> str:
    """Compare the metrics of a run with those of its lists, as far as it has kept lists.

    Metrics without a cut-off, with a larger one than the lists' length, or that lists do not
    determine, are not compared.

    Returns:
        What differs, or the reason why the lists cannot be read; nothing if all agree.
    """
    for part, metrics in run.record.metrics.items():
        path = rankings_path(run.path, part)
        try:
            found = _differing(run, path, metrics)
        except (ValueError, OSError) as error:
            return str(error)
        if found:
            return f"{part}, {found}"
    return ""


def _differing(run: Run, path: Path, metrics: dict[str, float]) -> str:
    hits = read_hits(path)
    if hits is None:
        return ""
    rounding = Rounding(run.record.config)
    for metric, recorded in metrics.items():
        values = hits.values(metric)
        if values is not None and not rounding.same(recorded, float(values.mean())):
            return f"{metric} is {recorded:.6f} in the record and {values.mean():.6f} in the lists"
    return ""
