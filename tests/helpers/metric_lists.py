"""Settings of the frozen lists that metrics are compared on."""

from pathlib import Path
from typing import Any

from recbole_llm.metrics.register import metric_types

#: Folder of ``frozen.json`` and ``reference.json``.
FOLDER = Path(__file__).parents[1] / "metrics"
CUTS = [3, 5, 10]
SETTINGS: dict[str, Any] = {
    "topk": CUTS,
    "metric_decimal_place": 12,
    "rbp_persistence": 0.8,
    "active_users": 0.25,
    "tail_ratio": 0.2,
}
#: Ranking metrics with a cut-off.
CUT = sorted(set(metric_types) - {"auc", "gauc", "logloss", "mae", "rmse"})
