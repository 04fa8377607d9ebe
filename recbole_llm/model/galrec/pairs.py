"""The pairs of views that GALRec's contrastive losses pull together (equations of the paper)."""

from typing import NamedTuple

View = tuple[str, int]  # side and hop


class Pair(NamedTuple):
    """Two views that a loss pulls together; the key's side and hop name the queue of negatives."""

    loss: str
    anchor: View
    key: View
    n_hops: int  # the pair takes part from so many hops on


PAIRS = (
    Pair("l1", ("user", 0), ("user", 2), 2),  # eq. 5, as eq. 14 has it
    Pair("l1", ("item", 0), ("item", 2), 2),  # eq. 6
    Pair("l2", ("item", 1), ("user", 2), 2),  # eq. 8
    Pair("l2", ("user", 1), ("item", 2), 2),  # eq. 9
    Pair("l3", ("item", 1), ("user", 0), 1),  # eq. 11
    Pair("l3", ("user", 1), ("item", 0), 1),  # eq. 12
    Pair("l2", ("item", 2), ("user", 3), 3),  # not in the paper
    Pair("l2", ("user", 2), ("item", 3), 3),
)
