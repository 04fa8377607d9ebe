"""The one place where metrics become known to RecBole. Importing this module registers them."""

from recbole.evaluator import register
from recbole.evaluator.base_metric import AbstractMetric

import recbole_llm.compat  # noqa: F401 - RecBole's own metrics are repaired first
from recbole_llm.metrics.accuracy import F1, RBP, RPrecision
from recbole_llm.metrics.base import FEATURES, USERS
from recbole_llm.metrics.diversity import IntraListDiversity
from recbole_llm.metrics.exposure import ColdItemShare, Novelty, Personalization, PopularityLift
from recbole_llm.metrics.groups import ActiveUserRecall, InactiveUserRecall, UserGroupGap

#: Metric classes that RecBole lacks.
ADDED: tuple[type[AbstractMetric], ...] = (
    F1,
    RPrecision,
    RBP,
    Novelty,
    PopularityLift,
    ColdItemShare,
    Personalization,
    IntraListDiversity,
    ActiveUserRecall,
    InactiveUserRecall,
    UserGroupGap,
)

#: Short names of metrics in result lines and reports.
SHORT_NAMES = {
    "recall": "R",
    "ndcg": "N",
    "hit": "H",
    "f1": "F1",
    "rbp": "RBP",
    "intralistdiversity": "ILD",
}

for _metric in ADDED:
    _name = _metric.__name__.lower()
    register.metrics_dict[_name] = _metric
    register.metric_types[_name] = _metric.metric_type
    register.metric_information[_name] = _metric.metric_need
    if _metric.smaller and _name not in register.smaller_metrics:
        register.smaller_metrics.append(_name)

#: Type of every metric, RecBole's and ours, by its name in lower case.
metric_types = register.metric_types
#: Names in lower case of the metrics of which a smaller value is better.
smaller_metrics = register.smaller_metrics


def short_name(metric: str) -> str:
    """Return ``R@10`` for ``recall@10``; a metric without a short name stays as it is."""
    name, at, k = metric.partition("@")
    return f"{SHORT_NAMES.get(name.lower(), name)}{at}{k}"


def needs_features(name: str) -> bool:
    """Return whether a metric reads items' features."""
    return FEATURES in register.metric_information[name.lower()]


def needs_users(name: str) -> bool:
    """Return whether a metric must know whose each list is."""
    return USERS in register.metric_information[name.lower()]
