"""Kinds 2 and 3: filters that RecBole reads wrongly, and those that leave nothing, are refused."""

import pytest

from recbole_llm.data.dataset import MultimodalDataset


def load(folder, **settings):
    settings = {"modalities": {}, "protocol": "random811", **settings}
    return MultimodalDataset(folder.config(**settings))


@pytest.mark.parametrize(
    ("value", "n_left"),
    [("[1,3]", 12), ("(1,3]", 8), ("[1,2);(3,inf)", 5), ("[-inf,1]", 4), ("[4,4]", 1)],
)
def test_intervals_keep_what_is_inside(folder, value, n_left):
    assert load(folder, val_interval={"timestamp": value}).inter_num == n_left


@pytest.mark.parametrize("value", ["3", 3, "[5,1]", "3,5", "[3]", "[a,b]", "[1,nan]", "", "[1,2]x"])
def test_kind3_a_text_that_is_no_interval_drops_no_row(folder, value):
    """RecBole dropped the last row but one, and said "illegal interval" in its log."""
    with pytest.raises(ValueError, match=r"'timestamp': a column of numbers takes intervals, "):
        load(folder, val_interval={"timestamp": value})


def test_a_list_of_names_is_kept(folder):
    assert load(folder, val_interval={"user_id": ["ann", "bob"]}).inter_num == 7


@pytest.mark.parametrize("value", ["ann", 7, [7], None])
def test_names_that_are_no_list_of_texts(folder, value):
    with pytest.raises(ValueError, match="'user_id': a column of names takes a list of them"):
        load(folder, val_interval={"user_id": value})


def test_an_unknown_column(folder):
    with pytest.raises(ValueError, match="'x': no loaded column has this name; there are user_id"):
        load(folder, val_interval={"x": "[1,2]"})


@pytest.mark.parametrize("name", ["foo", "timestamp"])
def test_kind3_an_alias_of_no_column_of_names(folder, name):
    with pytest.raises(ValueError, match=f"alias_of_item_id: no loaded column .* {name!r}"):
        load(folder, alias_of_item_id=[name])


def test_filters_that_leave_nothing_are_named(folder):
    message = (
        "none of 13 interactions is left. Left out by val_interval 12, user_inter_num_interval"
    )
    with pytest.raises(ValueError, match=message):
        load(
            folder,
            val_interval={"timestamp": "[4,4]"},
            user_inter_num_interval="[2,inf)",
        )
