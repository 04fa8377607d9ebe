"""What the metrics share: the lists of one cut-off, and the names of what they read.

n is the number of lists, K the longest cut-off, U and I count users and items with padding.
"""

from typing import Any

from numpy.typing import NDArray
from recbole.evaluator.base_metric import AbstractMetric
from recbole.evaluator.collector import DataStruct
from recbole.utils import EvaluatorType

#: Key of the ``Training`` in what RecBole's collector gathers.
TRAINING = "data.training"
#: Key of the items' features, (I, d) float32 of length 1 or 0.
FEATURES = "data.features"
#: Key of each list's user, (n,) int64.
USERS = "rec.users"


class ListMetric(AbstractMetric):
    """A metric of all lists of one length; a subclass says it by ``value``."""

    metric_type = EvaluatorType.RANKING
    metric_need = ["rec.items"]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.topk = config["topk"]

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float]:
        """Return the metric at each cut-off, such as ``{"novelty@10": 3.2}``."""
        name = type(self).__name__.lower()
        return {
            f"{name}@{k}": round(float(self.value(dataobject, k)), self.decimal_place)
            for k in self.topk
        }

    def value(self, dataobject: DataStruct, k: int) -> float:
        """Return the metric of the first ``k`` items of each list."""
        raise NotImplementedError


def items_of(dataobject: DataStruct, k: int) -> NDArray[Any]:
    """Return the first ``k`` items of each list, (n, k) int64 internal ids."""
    items: NDArray[Any] = dataobject.get("rec.items")[:, :k].numpy()
    return items
