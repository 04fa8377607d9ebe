"""Which items are shown: novelty, popularity against the users' own, cold items, personalization.

u(i) is the number of training users who have item i, see ``Training``.
"""

import numpy as np
from recbole.evaluator.collector import DataStruct

from recbole_llm.metrics.base import TRAINING, USERS, ListMetric, items_of


class Novelty(ListMetric):
    """Mean self-information of the recommended items in bits, log2(users / u(i)).

    Users are those with a training interaction. An item without any counts as one of one user.

    Reference: T. Zhou et al., "Solving the Apparent Diversity-Accuracy Dilemma of Recommender
    Systems", PNAS 107(10), 2010 (surprisal, I_i).
    """

    metric_need = ["rec.items", TRAINING]

    def value(self, dataobject: DataStruct, k: int) -> float:
        """Return the mean over lists and items, in 0 .. log2(users)."""
        training = dataobject.get(TRAINING)
        bits = np.log2(training.n_users / np.maximum(training.item_users, 1))
        return float(bits[items_of(dataobject, k)].mean())


class PopularityLift(ListMetric):
    """How much more popular the recommended items are than those of the users' own profiles.

    GAP_r / GAP_p - 1: GAP_r is the mean over lists of the mean u(i) of the list, GAP_p that of the
    user's training items. Lists of users without a training interaction are left out; 0 where no
    list remains.

    Reference: H. Abdollahpouri et al., "The Unfairness of Popularity Bias in Recommendation",
    RMSE workshop at RecSys 2019 (GAP, Delta GAP).
    """

    metric_need = ["rec.items", USERS, TRAINING]
    smaller = True

    def value(self, dataobject: DataStruct, k: int) -> float:
        """Return the lift, above -1; 0: as popular as the profiles."""
        training, users = dataobject.get(TRAINING), dataobject.get(USERS).numpy()
        known = training.user_items[users] > 0
        if not known.any():
            return 0.0
        shown = training.item_users[items_of(dataobject, k)[known]].mean()
        return float(shown / training.profile_popularity[users[known]].mean() - 1)


class ColdItemShare(ListMetric):
    """Share of the recommended items that have no training interaction."""

    metric_need = ["rec.items", TRAINING]

    def value(self, dataobject: DataStruct, k: int) -> float:
        """Return the share, in 0 .. 1."""
        return float((dataobject.get(TRAINING).item_users[items_of(dataobject, k)] == 0).mean())


class Personalization(ListMetric):
    """Mean share of items that two lists do not have in common; 0 of a single list.

    1 - sum_i c(i) (c(i) - 1) / (k n (n - 1)), c(i) the number of the n lists with item i: the mean
    Hamming distance of all pairs of lists, counted by item.

    Reference: T. Zhou et al., "Solving the Apparent Diversity-Accuracy Dilemma of Recommender
    Systems", PNAS 107(10), 2010 (personalization, h_ij).
    """

    def value(self, dataobject: DataStruct, k: int) -> float:
        """Return the mean distance, in 0 .. 1."""
        items = items_of(dataobject, k)
        n = len(items)
        if n < 2:
            return 0.0
        count = np.bincount(items.ravel()).astype(np.float64)
        return float(1 - (count * (count - 1)).sum() / (k * n * (n - 1)))
