"""Which interactions a dataset leaves out, and how many each filter removes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_llm.prepare.interactions import (
    DUPLICATES,
    Interactions,
    duplicate_mask,
    k_core_mask,
)


class Filters(NamedTuple):
    """Rules for what is left out; a source has its own defaults.

    Attributes:
        k_core: least number of interactions of each user and item; 0 and 1 keep everything.
        duplicates: ``first``, ``last`` or ``all``: which of a repeated (user, item) pair is kept.
        min_rating: lowest rating that is kept, or None.
        since: date, UTC, of the first interactions that are kept, or None.
        until: date, UTC, of the first later interactions that are left out, or None.
    """

    k_core: int = 0
    duplicates: str = "first"
    min_rating: float | None = None
    since: str | None = None
    until: str | None = None

    def check(self, source: str, columns: Sequence[str]) -> None:
        """Check the values before anything is fetched.

        Args:
            source: name of the source, for messages.
            columns: columns of interactions that the source has.

        Raises:
            ValueError: a value is out of range, or a filter needs a column that is missing.
        """
        if self.k_core < 0:
            raise ValueError(f"k_core must be an integer >= 0, got {self.k_core}.")
        if self.duplicates not in DUPLICATES:
            raise ValueError(
                f"duplicates must be {', '.join(DUPLICATES)}, got {self.duplicates!r}."
            )
        if self.min_rating is not None and "rating" not in columns:
            raise ValueError(f"min_rating: {source} has no ratings here.")
        if (self.since or self.until) and "timestamp" not in columns:
            raise ValueError(f"since, until: {source} has no timestamps here.")
        for date in filter(None, (self.since, self.until)):
            _seconds(date)

    def apply(self, data: Interactions) -> tuple[Interactions, dict[str, int]]:
        """Apply the filters one after the other.

        Returns:
            data: interactions that are left.
            steps: number of interactions that were read, that each filter removed and that are
                kept, and how many rounds the k-core took.
        """
        steps = {"read": len(data.user)}

        def keep(step: str, mask: NDArray[np.bool_]) -> None:
            nonlocal data
            steps[step] = int(len(mask) - np.count_nonzero(mask))
            if steps[step]:
                data = data.take(mask)

        def keep_known(column: str) -> None:
            missing = np.isnan(getattr(data, column))
            if missing.any():
                keep(f"without_{column}", ~missing)

        if self.min_rating is not None:
            keep_known("rating")
            keep("below_min_rating", data.rating >= self.min_rating)
        if self.since or self.until:
            keep_known("time")
        if self.since:
            keep("before_since", data.time >= _seconds(self.since))
        if self.until:
            keep("from_until_on", data.time < _seconds(self.until))
        keep("duplicates", ~duplicate_mask(data, self.duplicates))
        mask, n_rounds = k_core_mask(data.user, data.item, self.k_core)
        keep("below_k_core", mask)
        return data, {**steps, "k_core_rounds": n_rounds, "kept": len(data.user)}


def _seconds(date: str) -> float:
    """Return the Unix seconds of a date's beginning, UTC."""
    try:
        return datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise ValueError(f"a date must look like 2019-12-31, got {date!r}.") from error
