"""Checks of the split: users and items unknown to training, overlaps, and training on the future.

Each check takes a view and yields findings; a clean dataset has none.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from recbole_llm.inspection.finding import SHOWN, Finding, pairs_of
from recbole_llm.inspection.view import View


def check_parts(view: View) -> Iterator[Finding]:
    """Run every check of this module; a dataset that cannot be split has no finding."""
    if view.parts:
        yield from _unseen_ids(view)
        yield from _overlaps(view)
        yield from _time_travel(view)


def _unseen_ids(view: View) -> Iterator[Finding]:
    train = view.parts[0]
    for kind, ids, names in (("user", view.user, view.users), ("item", view.item, view.items)):
        for part, rows in zip(("validation", "test"), view.parts[1:], strict=True):
            unseen = np.setdiff1d(ids[rows], ids[train])
            if len(unseen):
                n_rows = int(np.isin(ids[rows], unseen).sum())
                yield Finding(
                    f"{part}_only_{kind}s",
                    f"{len(unseen):,} {kind}s of {n_rows:,} {part} interactions "
                    f"({n_rows / len(rows):.1%}) do not occur in training ({view.protocol})",
                    len(unseen),
                    names(unseen[:SHOWN]),
                    "read their metrics separately (metrics_cold in the record): a model that "
                    "knows ids alone cannot rank them",
                )


def _overlaps(view: View) -> Iterator[Finding]:
    """Find held-out interactions whose user and item, or whole row, training has too."""
    train, held_out = view.parts[0], np.concatenate(view.parts[1:])
    keys = view.pair_keys()
    rows = held_out[np.isin(keys[held_out], keys[train])]
    is_same = np.ones(len(rows), dtype=bool)
    fields = "user and item"
    if view.time is not None:
        fields = "user, item and time"
        rows_in_time = pd.MultiIndex.from_arrays([keys[rows], view.time[rows]])
        is_same = rows_in_time.isin(pd.MultiIndex.from_arrays([keys[train], view.time[train]]))
    same, repeated = rows[is_same], rows[~is_same]
    if len(same):
        yield Finding(
            "train_test_overlap",
            f"{len(same):,} of {len(held_out):,} held-out interactions are in training too, with "
            f"the same {fields} ({view.protocol})",
            len(same),
            pairs_of(view, same),
            "remove them from one of the parts: they reward a model that memorises",
        )
    if len(repeated):
        yield Finding(
            "train_test_repeats",
            f"{len(repeated):,} of {len(held_out):,} held-out interactions repeat the user and "
            f"item of a training interaction at another time ({view.protocol})",
            len(repeated),
            pairs_of(view, repeated),
            "say in your paper how repeats are treated, or set --rm_dup_inter=first: a model "
            "that memorises ranks them first",
        )


def _time_travel(view: View) -> Iterator[Finding]:
    """Find test interactions that are older than a training interaction."""
    if view.time is None or np.ptp(view.time) == 0:
        return
    train, _, test = view.parts
    is_older = view.time[test] < view.time[train].max()
    if not is_older.any():
        return
    last = np.full(view.dataset.user_num, -np.inf)  # time of each user's last training row
    np.maximum.at(last, view.user[train], view.time[train])
    by_user = view.time[test] < last[view.user[test]]
    yield Finding(
        "time_travel",
        f"{is_older.sum():,} test interactions ({is_older.mean():.1%}) are older than some "
        f"training interaction, {by_user.sum():,} ({by_user.mean():.1%}) by their own user "
        f"({view.protocol})",
        int(is_older.sum()),
        pairs_of(view, test[is_older]),
        "report the protocol global_time as well (recbole_llm split --protocol=global_time): "
        "here the model learns from later interactions than it is tested on",
    )
