import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm.prepare.filters import Filters
from recbole_llm.prepare.interactions import (
    InteractionLog,
    duplicate_mask,
    k_core_mask,
    time_order,
)

ROWS = st.lists(
    st.tuples(
        st.sampled_from("abcdef"),
        st.sampled_from("uvwxyz"),
        st.sampled_from([1.0, 2.5, 5.0]),
        st.integers(0, 6).map(lambda day: day * 86_400.0),
    ),
    min_size=1,
    max_size=80,
)
COLUMNS = ["user", "item", "rating", "time"]


def logged(rows):
    log = InteractionLog()
    for row in rows:
        log.add(*row)
    return log.finish()


def as_frame(data, users, items):
    return pd.DataFrame(
        {
            "user": [users[code] for code in data.user],
            "item": [items[code] for code in data.item],
            "rating": data.rating,
            "time": data.time,
        }
    )


def plain_k_core(frame, k):
    """Drop users and items with fewer than k rows until there are none."""
    while True:
        users, items = (it.map(it.value_counts()) for it in (frame["user"], frame["item"]))
        kept = frame[(users >= k) & (items >= k)]
        if len(kept) == len(frame):
            return kept
        frame = kept


def plain_prepare(frame, filters):
    """The same filters and order in plain pandas."""
    if filters.min_rating is not None:
        frame = frame[frame["rating"] >= filters.min_rating]
    if filters.since is not None:
        frame = frame[frame["time"] >= pd.Timestamp(filters.since).timestamp()]
    if filters.until is not None:
        frame = frame[frame["time"] < pd.Timestamp(filters.until).timestamp()]
    if filters.duplicates != "all":
        by_time = frame.sort_values("time", kind="stable")
        kept = by_time.drop_duplicates(["user", "item"], keep=filters.duplicates)
        frame = frame.loc[kept.index.sort_values()]
    return plain_k_core(frame, filters.k_core)


@settings(deadline=None, max_examples=100)
@given(
    rows=ROWS,
    k=st.integers(0, 4),
    duplicates=st.sampled_from(["first", "last", "all"]),
    min_rating=st.sampled_from([None, 2.0, 5.0]),
    since=st.sampled_from([None, "1970-01-03"]),
    until=st.sampled_from([None, "1970-01-06"]),
)
def test_what_is_left_is_what_pandas_leaves(rows, k, duplicates, min_rating, since, until):
    filters = Filters(k, duplicates, min_rating, since, until)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    data, users, items = logged(rows)
    kept, steps = filters.apply(data)
    expected = plain_prepare(frame, filters).reset_index(drop=True)
    pd.testing.assert_frame_equal(as_frame(kept, users, items), expected, check_dtype=False)
    dropped = {key: n for key, n in steps.items() if key not in ("read", "kept", "k_core_rounds")}
    assert steps["read"] == len(rows)
    assert steps["kept"] == len(rows) - sum(dropped.values()) == len(expected)


@settings(deadline=None)
@given(rows=ROWS)
def test_order_is_by_user_then_time_and_stable(rows):
    data, users, items = logged(rows)
    found = as_frame(data.take(time_order(data)), users, items)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    first_seen = {user: place for place, user in enumerate(dict.fromkeys(frame["user"]))}
    frame["place"] = frame["user"].map(first_seen)
    expected = frame.sort_values(["place", "time"], kind="stable").drop(columns="place")
    pd.testing.assert_frame_equal(found, expected.reset_index(drop=True), check_dtype=False)


def test_k_core_by_hand():
    # 0 takes items 0, 1; 1 takes 0, 1; 2 takes 1, 2: item 2 has one, then user 2 has one.
    user = np.array([0, 0, 1, 1, 2, 2], dtype=np.int32)
    item = np.array([0, 1, 0, 1, 1, 2], dtype=np.int32)
    keep, n_rounds = k_core_mask(user, item, 2)
    assert keep.tolist() == [True] * 4 + [False] * 2 and n_rounds == 2
    assert k_core_mask(user, item, 1)[0].all() and k_core_mask(user, item, 0)[0].all()
    assert not k_core_mask(user, item, 3)[0].any()


def test_duplicates_by_hand():
    rows = [("a", "x", 1.0, 9.0), ("a", "x", 2.0, 3.0), ("a", "y", 3.0, 3.0), ("a", "x", 4.0, 3.0)]
    data, *_ = logged(rows)
    assert duplicate_mask(data, "first").tolist() == [True, False, False, True]
    assert duplicate_mask(data, "last").tolist() == [False, True, False, True]
    assert not duplicate_mask(data, "all").any()


def test_identifiers_of_dropped_rows_do_not_matter():
    log = InteractionLog()
    log.add("a", "x", 1.0, 1.0)
    for row in [("b", "", 1.0, 1.0), ("", "y", 1.0, 1.0), ("c", "z", float("nan"), 1.0)]:
        with pytest.raises(ValueError, match="identifier|finite"):
            log.add(*row)
    for row in [
        (1, "y", 1.0, 1.0),
        ("c", None, 1.0, 1.0),
        ("c", "z", "5", 1.0),
        (["a"], "x", 1, 1),
    ]:
        with pytest.raises(TypeError):
            log.add(*row)
    data, users, items = log.finish()
    assert [len(column) for column in data] == [1] * 5
    assert (users[data.user[0]], items[data.item[0]]) == ("a", "x")


def test_large_codes_do_not_overflow():
    log = InteractionLog()
    for number in range(70_000):
        log.add(f"u{number}", f"i{number}", 1.0, 0.0)
    log.add("u61357", "i0", 1.0, 0.0)  # 61357 * 70000 is 22704 more than 2 ** 32
    log.add("u0", "i22704", 1.0, 0.0)
    log.add("u69999", "i69999", 1.0, 1.0)
    data, *_ = log.finish()
    assert np.flatnonzero(duplicate_mask(data, "first")).tolist() == [70_002]
