"""Checks of order and time: ids and rows that reveal an order, and times that are no clock.

Each check takes a view and yields findings; a clean dataset has none.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from recbole_llm.inspection.finding import Finding, pairs_of
from recbole_llm.inspection.view import View
from recbole_llm.splitting.protocols import Index

# With fewer items or steps in time, an order may be chance.
_MIN_SAMPLE = 20
_MIN_CORRELATION = 0.5  # Spearman's rho from which ids are said to follow a quantity
_ORDERED_SHARE = 0.95  # share of steps or users from which an order is called deliberate
_TIED_SHARE = 0.01  # share of interactions from which equal times are reported

Times = NDArray[np.float64]


def check_times(view: View) -> Iterator[Finding]:
    """Run every check of this module; O(n log n) time for n interactions."""
    yield from _item_id_order(view)
    if view.time is None:
        return
    yield from _file_order(view, view.time)
    if np.ptp(view.time) == 0:
        yield _constant_time(view.time)
        return
    order = np.lexsort((view.time, view.user))  # user by user, in time order
    yield from _ordinal_time(view.user[order], view.time[order])
    yield from _tied_times(view, view.time, order)


def _item_id_order(view: View) -> Iterator[Finding]:
    """Compare the number at the end of item ids with popularity and with first appearance."""
    tokens = pd.Series(view.dataset.field2id_token[view.dataset.iid_field][1:]).astype(str)
    number = pd.to_numeric(tokens.str.extract(r"(\d+)$")[0], errors="coerce").to_numpy()
    popularity = np.bincount(view.item, minlength=view.dataset.item_num)[1:].astype(float)
    quantities: dict[str, Times] = {"popularity": popularity}
    if view.time is not None:
        first = np.full(view.dataset.item_num, np.inf)
        np.minimum.at(first, view.item, view.time)
        quantities["the time of the first interaction"] = first[1:]
    known = np.isfinite(number) & (popularity > 0)
    for name, values in quantities.items():
        if known.sum() < _MIN_SAMPLE or not (np.ptp(values[known]) and np.ptp(number[known])):
            continue
        rho = float(spearmanr(number[known], values[known]).statistic)
        if abs(rho) >= _MIN_CORRELATION:
            yield Finding(
                "item_id_order",
                f"the numbers in item ids follow {name}: Spearman's rho is {rho:+.2f} over "
                f"{known.sum():,} items",
                int(known.sum()),
                [],
                "never show such ids to a model that reads digits, such as a language model, and "
                "break ties in scores at random; or give the items new numbers in random order",
            )


def _file_order(view: View, time: Times) -> Iterator[Finding]:
    order = np.argsort(view.user, kind="stable")  # each user's rows in the order of the file
    step = np.diff(time[order])[np.diff(view.user[order]) == 0]
    step = step[step != 0]
    if len(step) >= _MIN_SAMPLE and (step > 0).mean() >= _ORDERED_SHARE:
        yield Finding(
            "file_order",
            f"each user's rows are sorted by time in the file: {(step > 0).mean():.1%} of "
            f"{len(step):,} steps go forward",
            int((step > 0).sum()),
            [],
            "nothing, as long as times are used; without the time column the file still reveals "
            "the order, and it decides between equal times",
        )


def _constant_time(time: Times) -> Finding:
    return Finding(
        "constant_time",
        f"all {len(time):,} interactions have the time {time[0]:g}",
        len(time),
        [],
        "use the protocol random811: an order by time means nothing here",
    )


def _ordinal_time(user: Index, time: Times) -> Iterator[Finding]:
    """Look for times that count a user's interactions; both arrays are sorted by user, time."""
    counts = np.bincount(user)
    counts = counts[counts > 0]
    start = np.cumsum(counts) - counts
    position = time - np.repeat(time[start], counts)
    is_ordinal = position == np.arange(len(time)) - np.repeat(start, counts)
    counted = np.logical_and.reduceat(is_ordinal, start) & np.isin(time[start], (0, 1))
    if counts.max() > 1 and counted[counts > 1].mean() >= _ORDERED_SHARE:
        yield Finding(
            "ordinal_time",
            f"the times of {counted.sum():,} of {len(counted):,} users are positions in their "
            f"sequence (0 or 1, 2, 3, ...), not clock times",
            int(counted.sum()),
            [],
            "do not use the protocol global_time: only the order within one user is real",
        )


def _tied_times(view: View, time: Times, order: Index) -> Iterator[Finding]:
    """Look for equal times of one user, in the file and in RecBole's float32."""
    sorted_time = time[order]
    same_user = np.diff(view.user[order]) == 0
    tied = np.flatnonzero(same_user & (np.diff(sorted_time) == 0)) + 1
    if len(tied) >= _TIED_SHARE * len(time):
        yield Finding(
            "tied_times",
            f"{len(tied):,} interactions ({len(tied) / len(time):.1%}) have the same time as "
            f"another interaction of their user",
            len(tied),
            pairs_of(view, order[tied]),
            "sort the file in the right order, which decides between equal times; else "
            "leave-one-out holds out an arbitrary one of them",
        )
    scaled = view.dataset.inter_feat[view.dataset.time_field].to_numpy()
    single = scaled[order].astype(np.float32)  # the precision of a run
    merged = np.flatnonzero(same_user & (np.diff(sorted_time) > 0) & (np.diff(single) == 0)) + 1
    if len(merged):
        yield Finding(
            "float32_times",
            f"{len(merged):,} interactions ({len(merged) / len(time):.1%}) differ in time from "
            f"another interaction of their user in the file, but not in float32, the precision "
            f"in which RecBole keeps times",
            len(merged),
            pairs_of(view, order[merged]),
            "sort the file by time: equal times keep the order of the file",
        )
