"""Recall of the users who are most active in training, of the others, and the gap between them."""

from typing import Any

import numpy as np
from recbole.evaluator.collector import DataStruct

from recbole_llm.metrics.base import TRAINING, USERS, ListMetric
from recbole_llm.metrics.training import active_users


class _GroupMetric(ListMetric):
    """A metric that splits the lists by their users' activity.

    Config keys: ``active_users`` (share of the evaluated users who are active).
    """

    metric_need = ["rec.topk", USERS, TRAINING]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.share = config["active_users"]

    def recalls(self, dataobject: DataStruct, k: int) -> tuple[float, float]:
        """Return the mean recall of the lists of active users and of the others; 0 of no list."""
        ranked = dataobject.get("rec.topk").numpy()
        recall = ranked[:, :k].sum(axis=1) / ranked[:, -1]
        users, training = dataobject.get(USERS).numpy(), dataobject.get(TRAINING)
        active = active_users(users, training.user_items, self.share)
        others = recall[~active]
        return float(recall[active].mean()), float(others.mean()) if len(others) else 0.0


class ActiveUserRecall(_GroupMetric):
    """Recall of the most active users: most items in their training profiles."""

    def value(self, dataobject: DataStruct, k: int) -> float:
        """Return the mean recall, in 0 .. 1."""
        return self.recalls(dataobject, k)[0]


class InactiveUserRecall(_GroupMetric):
    """Recall of the users who are not among the most active; 0 where there is none."""

    def value(self, dataobject: DataStruct, k: int) -> float:
        """Return the mean recall, in 0 .. 1."""
        return self.recalls(dataobject, k)[1]


class UserGroupGap(_GroupMetric):
    """Absolute difference of the two groups' recall.

    Reference: Y. Li et al., "User-oriented Fairness in Recommendation", WWW 2021 (UGF),
    with recall as the metric and the share of ``active_users``.
    """

    smaller = True

    def value(self, dataobject: DataStruct, k: int) -> float:
        """Return the gap, in 0 .. 1."""
        active, others = self.recalls(dataobject, k)
        return float(np.abs(active - others))
