"""Checks of the interactions: rows, ids, repeated pairs, constant columns, and extreme users.

Each check takes a view and yields findings; a clean dataset has none.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from recbole_llm.inspection.finding import SHOWN, Finding, pairs_of
from recbole_llm.inspection.view import View

# With fewer active users, no number of interactions is called extreme.
_MIN_USERS = 20
# A user is extreme above 50 medians and 20 means, or above 5 % of all interactions.
_EXTREME_MEDIANS, _EXTREME_MEANS, _EXTREME_SHARE = 50, 20, 0.05


def check_interactions(view: View) -> Iterator[Finding]:
    """Run every check of this module; O(n log n) time for n interactions."""
    yield from _rows_left_out(view)
    yield from _ids_with_spaces(view)
    yield from _duplicate_pairs(view)
    yield from _constant_columns(view)
    yield from _extreme_users(view)


def _rows_left_out(view: View) -> Iterator[Finding]:
    n_rows = view.dataset.n_source_rows
    n_left_out = n_rows - len(view.user)
    if n_left_out:
        yield Finding(
            "rows_left_out",
            f"{n_left_out:,} of {n_rows:,} rows are left out: the settings filter them",
            n_left_out,
            [],
            "nothing, if you set a filter; else look for users and items that the .user or .item "
            "file does not have",
        )


def _ids_with_spaces(view: View) -> Iterator[Finding]:
    for kind, field in (("user", view.dataset.uid_field), ("item", view.dataset.iid_field)):
        tokens = pd.Series(view.dataset.field2id_token[field][1:]).astype(str)
        stripped = tokens.str.replace(r"\s+", "", regex=True)
        alike = tokens[stripped.duplicated(keep=False)]
        spaced = alike[alike.str.contains(r"\s", regex=True)]
        if len(spaced):
            yield Finding(
                f"{kind}_id_whitespace",
                f"{len(spaced):,} {kind} ids differ from another one by white space alone",
                len(spaced),
                [repr(token) for token in spaced[:SHOWN]],
                f"remove the white space if they mean the same {kind}: now they are two",
            )


def _duplicate_pairs(view: View) -> Iterator[Finding]:
    keys = view.pair_keys()
    rows = np.flatnonzero(pd.Series(keys).duplicated())
    if len(rows):
        yield Finding(
            "duplicate_pairs",
            f"{len(rows):,} interactions ({len(rows) / len(keys):.1%}) repeat the user and item "
            f"of an earlier interaction",
            len(rows),
            pairs_of(view, rows),
            "keep them if users can really consume an item again; else set --rm_dup_inter=first",
        )


def _constant_columns(view: View) -> Iterator[Finding]:
    for name, values in view.ratings.items():
        if np.ptp(values) == 0:
            yield Finding(
                "constant_column",
                f"column {name!r} is {values[0]:g} in all {len(values):,} interactions",
                len(values),
                [],
                "leave the column out of load_col, and set no threshold on it: it holds no "
                "information",
            )


def _extreme_users(view: View) -> Iterator[Finding]:
    degree = np.bincount(view.user)
    active = degree[degree > 0]
    if len(active) < _MIN_USERS:
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
            f"{np.median(active):g}); together they have "
            f"{degree[extreme].sum() / len(view.user):.1%} of all interactions",
            len(extreme),
            [f"{name}: {n:,}" for name, n in names],
            "find out whether they are shops, crawlers or test accounts, and leave those out "
            "with --user_inter_num_interval",
        )
