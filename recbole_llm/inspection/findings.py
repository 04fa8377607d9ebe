"""What to look at before trusting numbers on a data set, found in its interactions.

Each check takes a view and yields findings; a clean data set has none.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from recbole_llm.inspection.view import View
from recbole_llm.splitting.protocols import Index

#: Examples that a finding shows.
SHOWN = 5
# Below these, the thing is too common or too small a sample to point at.
_CORRELATION, _SAMPLE = 0.5, 20
_TIED_SHARE = 0.01
_EXTREME_MEDIANS, _EXTREME_MEANS, _EXTREME_SHARE = 50, 20, 0.05


class Finding(NamedTuple):
    """One thing to look at.

    Attributes:
        key: its name, the same in every report.
        what: a sentence with its numbers.
        n: how many (interactions, users, items, rows; ``what`` says).
        examples: the first ``SHOWN``.
        advice: what to do.
    """

    key: str
    what: str
    n: int
    examples: list[str]
    advice: str


def find(view: View) -> list[Finding]:
    """Run every check on the interactions; O(n log n) time."""
    checks = (_rows, _ids, _duplicates, _ratings, _users, _order, _times, _parts, _time_travel)
    return [finding for check in checks for finding in check(view)]


def _pairs(view: View, rows: Index) -> list[str]:
    users, items = view.users(view.user[rows[:SHOWN]]), view.items(view.item[rows[:SHOWN]])
    return [f"({user}, {item})" for user, item in zip(users, items, strict=True)]


def _rows(view: View) -> Iterator[Finding]:
    n_gone = view.dataset.n_source_rows - len(view.user)
    if n_gone:
        yield Finding(
            "rows_left_out",
            f"{n_gone:,} of {view.dataset.n_source_rows:,} rows are left out by the settings, or "
            f"their user or item is missing",
            n_gone,
            [],
            "wanted, if you set a filter; else look for ids such as NA, null or an empty cell, "
            "read as missing, and for users and items that the .user or .item file lacks",
        )


def _ids(view: View) -> Iterator[Finding]:
    for kind, field in (("user", view.dataset.uid_field), ("item", view.dataset.iid_field)):
        tokens = pd.Series(view.dataset.field2id_token[field][1:]).astype(str)
        odd = tokens[tokens.str.contains(r"\s", regex=True)]
        if len(odd):
            yield Finding(
                f"{kind}_id_whitespace",
                f"{len(odd):,} {kind} ids hold white space",
                len(odd),
                [repr(token) for token in odd[:SHOWN]],
                "strip it: 'a' and 'a ' are two ids, and feature files will not match",
            )


def _duplicates(view: View) -> Iterator[Finding]:
    keys = view.user.astype(np.int64) * view.dataset.item_num + view.item
    rows = np.flatnonzero(pd.Series(keys).duplicated())
    if len(rows):
        yield Finding(
            "duplicate_pairs",
            f"{len(rows):,} interactions ({len(rows) / len(keys):.1%}) repeat an earlier (user, "
            f"item) pair",
            len(rows),
            _pairs(view, rows),
            "keep them if repeat consumption is meant; else --rm_dup_inter=first",
        )


def _ratings(view: View) -> Iterator[Finding]:
    for name, values in view.ratings.items():
        if np.ptp(values) == 0:
            yield Finding(
                "constant_column",
                f"column {name!r} is {values[0]:g} in all {len(values):,} interactions",
                len(values),
                [],
                "it says nothing; leave it out of load_col, and set no threshold on it",
            )


def _users(view: View) -> Iterator[Finding]:
    degree = np.bincount(view.user)
    active = degree[degree > 0]
    if len(active) < _SAMPLE:
        return
    usual = max(_EXTREME_MEDIANS * np.median(active), _EXTREME_MEANS * active.mean())
    limit = min(usual, _EXTREME_SHARE * len(view.user))
    extreme = np.flatnonzero(degree > max(limit, 1))
    extreme = extreme[np.argsort(-degree[extreme], kind="stable")]
    if len(extreme):
        names = zip(view.users(extreme[:SHOWN]), degree[extreme], strict=False)
        yield Finding(
            "extreme_users",
            f"{len(extreme):,} users have more than {limit:,.0f} interactions (median "
            f"{np.median(active):g}), {degree[extreme].sum() / len(view.user):.1%} of all",
            len(extreme),
            [f"{name}: {n:,}" for name, n in names],
            "a shop, a crawler or a test account? Drop them with --user_inter_num_interval",
        )


def _order(view: View) -> Iterator[Finding]:
    tokens = pd.Series(view.dataset.field2id_token[view.dataset.iid_field][1:]).astype(str)
    number = pd.to_numeric(tokens.str.extract(r"(\d+)$")[0], errors="coerce").to_numpy()
    popularity = np.bincount(view.item, minlength=view.dataset.item_num)[1:].astype(float)
    measured: dict[str, NDArray[Any]] = {"popularity": popularity}
    if view.time is not None:
        first = np.full(view.dataset.item_num, np.inf)
        np.minimum.at(first, view.item, view.time)
        measured["the time of the first interaction"] = first[1:]
    for name, values in measured.items():
        known = np.isfinite(number) & (popularity > 0)
        if known.sum() < _SAMPLE or np.ptp(values[known]) == 0 or np.ptp(number[known]) == 0:
            continue
        rho = float(spearmanr(number[known], values[known]).statistic)
        if abs(rho) >= _CORRELATION:
            yield Finding(
                "item_id_order",
                f"the number in an item id goes with {name}: Spearman's rho {rho:+.2f} over "
                f"{known.sum():,} items",
                int(known.sum()),
                [],
                "never show such ids to a model that reads digits (an LLM), and break ties in "
                "scores at random; or number the items anew, in random order",
            )
    if view.time is None:
        return
    order = np.argsort(view.user, kind="stable")  # each user's rows in file order
    step = np.diff(view.time[order])[np.diff(view.user[order]) == 0]
    step = step[step != 0]
    if len(step) >= _SAMPLE and (step > 0).mean() >= 0.95:
        yield Finding(
            "file_order",
            f"users' rows stand in time order: {(step > 0).mean():.1%} of {len(step):,} steps",
            int((step > 0).sum()),
            [],
            "harmless while times decide; a file without its time column would still tell the "
            "order, and ties in time are broken by it",
        )


def _times(view: View) -> Iterator[Finding]:
    if view.time is None:
        return
    if np.ptp(view.time) == 0:
        yield Finding(
            "constant_time",
            f"all {len(view.time):,} interactions have the time {view.time[0]:g}",
            len(view.time),
            [],
            "no protocol that orders by time means anything here; use random811",
        )
        return
    order = np.lexsort((view.time, view.user))
    user, time = view.user[order], view.time[order]
    counts = np.bincount(user)
    counts = counts[counts > 0]
    start = np.cumsum(counts) - counts
    position = time - np.repeat(time[start], counts)
    is_ordinal = position == np.arange(len(time)) - np.repeat(start, counts)
    whole = np.logical_and.reduceat(is_ordinal, start) & np.isin(time[start], (0, 1))
    if counts.max() > 1 and whole[counts > 1].mean() >= 0.95:
        yield Finding(
            "ordinal_time",
            f"times are positions (0 or 1, 2, 3, ...) in the sequences of {whole.sum():,} of "
            f"{len(whole):,} users, and no clock",
            int(whole.sum()),
            [],
            "order within a user is real; a split by global time is not: leave global_time out",
        )
    same_user = np.diff(user) == 0
    tied = np.flatnonzero(same_user & (np.diff(time) == 0)) + 1
    if len(tied) >= _TIED_SHARE * len(time):
        yield Finding(
            "tied_times",
            f"{len(tied):,} interactions ({len(tied) / len(time):.1%}) have the time of another "
            f"of their user",
            len(tied),
            _pairs(view, order[tied]),
            "their order is that of the file; leave-one-out then holds out an arbitrary one",
        )
    scaled = view.dataset.inter_feat[view.dataset.time_field].to_numpy()
    single = scaled[order].astype(np.float32)  # what runs have
    merged = np.flatnonzero(same_user & (np.diff(time) > 0) & (np.diff(single) == 0)) + 1
    if len(merged):
        yield Finding(
            "float32_times",
            f"{len(merged):,} interactions ({len(merged) / len(time):.1%}) tie with another of "
            f"their user in float32, which RecBole keeps times in, and not in the file",
            len(merged),
            _pairs(view, order[merged]),
            "sort the file by time: ties keep the order of the file",
        )


def _parts(view: View) -> Iterator[Finding]:
    if not view.parts:
        return
    train = view.parts[0]
    for kind, ids, names in (("user", view.user, view.users), ("item", view.item, view.items)):
        for part, rows in zip(("validation", "test"), view.parts[1:], strict=True):
            unseen = np.setdiff1d(ids[rows], ids[train])
            if len(unseen):
                n_rows = int(np.isin(ids[rows], unseen).sum())
                yield Finding(
                    f"{part}_only_{kind}s",
                    f"{len(unseen):,} {kind}s of {n_rows:,} {part} interactions "
                    f"({n_rows / len(rows):.1%}) are not in training ({view.protocol})",
                    len(unseen),
                    names(unseen[:SHOWN]),
                    "a model of ids alone cannot rank them; runs measure them apart "
                    "(metrics_cold in the record)",
                )
    keys = view.user.astype(np.int64) * view.dataset.item_num + view.item
    held_out = np.concatenate(view.parts[1:])
    rows = held_out[np.isin(keys[held_out], keys[train])]
    is_same = np.ones(len(rows), dtype=bool)
    if view.time is not None:
        stamps = pd.MultiIndex.from_arrays([keys[rows], view.time[rows]])
        is_same = stamps.isin(pd.MultiIndex.from_arrays([keys[train], view.time[train]]))
    for key, chosen, text, advice in (
        (
            "train_test_overlap",
            rows[is_same],
            "are training interactions too, with the same user, item" + (
                " and time" if view.time is not None else ""
            ),
            "remove them from one of the parts: a model that memorises is paid for it",
        ),
        (
            "train_test_repeats",
            rows[~is_same],
            "repeat a training (user, item) pair at another time",
            "they are ranked although training has them, so memory alone hits them: say how "
            "repeats are meant, or --rm_dup_inter=first",
        ),
    ):  # fmt: skip
        if len(chosen):
            yield Finding(
                key,
                f"{len(chosen):,} of {len(held_out):,} held-out interactions {text} "
                f"({view.protocol})",
                len(chosen),
                _pairs(view, chosen),
                advice,
            )


def _time_travel(view: View) -> Iterator[Finding]:
    if not view.parts or view.time is None or np.ptp(view.time) == 0:
        return
    train, _, test = view.parts
    travels = view.time[test] < view.time[train].max()
    if travels.any():
        last = np.full(view.dataset.user_num, -np.inf)
        np.maximum.at(last, view.user[train], view.time[train])
        own = view.time[test] < last[view.user[test]]
        yield Finding(
            "time_travel",
            f"{travels.sum():,} test interactions ({travels.mean():.1%}) have later training "
            f"interactions by anyone, {own.sum():,} ({own.mean():.1%}) by their own user "
            f"({view.protocol})",
            int(travels.sum()),
            _pairs(view, test[travels]),
            "the model learns from what was not known yet; report global_time beside it "
            "(recbole_llm split --protocol=global_time)",
        )
