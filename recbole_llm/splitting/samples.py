"""Samples of RecBole's sequential models for a split: a next item and the history before it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_llm.splitting.protocols import grouped

Index = NDArray[np.int64]


class Samples(NamedTuple):
    """One part's samples; positions are of interactions.

    Attributes:
        target: (n,) int64, the next item's position.
        history: (n, L) int64, positions of the items before it, oldest first; 0 behind the end.
        length: (n,) int64, at most L and at least 1.
    """

    target: Index
    history: Index
    length: Index


def cut_samples(
    user: Index, time: NDArray[np.floating], parts: Sequence[Index], width: int
) -> list[Samples]:
    """Cut each part's samples: every interaction with an earlier one of its user.

    A history is what the user did before, in the sample's own part or an earlier one: training
    samples see training alone, test samples all. Ties in time keep the order of the positions.
    Samples come in the order of RecBole's leave-one-out.

    Args:
        user: (N,) user ids.
        time: (N,) times.
        parts: positions of training, validation and test.
        width: L, the longest history.
    """
    cut = [_part_samples(user, time, parts, part, width) for part in range(len(parts))]
    target = np.concatenate([samples.target for samples in cut])
    part_of = np.repeat(np.arange(len(cut)), [len(samples.target) for samples in cut])
    order = np.lexsort((target, user[target], time[target]))
    order = grouped(order, user[target])[0]
    begin = 0
    ordered = []
    for part, samples in enumerate(cut):
        rows = order[part_of[order] == part] - begin
        ordered.append(Samples(*(array[rows] for array in samples)))
        begin += len(samples.target)
    return ordered


def _part_samples(
    user: Index, time: NDArray[np.floating], parts: Sequence[Index], part: int, width: int
) -> Samples:
    is_visible, is_target = np.zeros(len(user), dtype=bool), np.zeros(len(user), dtype=bool)
    is_visible[np.concatenate(parts[: part + 1])] = True
    is_target[parts[part]] = True
    visible = np.flatnonzero(is_visible)
    visible = visible[np.lexsort((time[visible], user[visible]))]
    order, position, _ = grouped(visible, user)
    at = np.flatnonzero(is_target[order] & (position > 0))
    length = np.minimum(position[at], width)
    column = np.arange(width)
    history = order[np.minimum((at - length)[:, None] + column, len(order) - 1)]
    history *= column < length[:, None]
    return Samples(order[at], history, length)
