"""Kind 1: the record says how many rows were left out, and by which setting."""

import pytest

from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.data.describe import describe_data

REPEATED = ("ann", "i4", 9)
ITEMS = {"item": ["item_id", "title"], "inter": ["user_id", "item_id", "timestamp"]}


def left_out(folder, name="left_out", **settings):
    dataset = MultimodalDataset(folder.config(modalities={}, **settings))
    return describe_data(dataset, dataset.build())[name]


def test_nothing_is_left_out(folder):
    assert left_out(folder) == {}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"rm_dup_inter": "first"}, {"rm_dup_inter": 1}),
        ({"val_interval": {"timestamp": "[2,inf)"}, "protocol": "random811"}, {"val_interval": 4}),
        (
            {"user_inter_num_interval": "[4,inf)"},
            {"user_inter_num_interval, item_inter_num_interval": 6},
        ),
    ],
)
def test_each_filter_is_counted(folder, settings, expected):
    folder.write_inter([*folder.inter, REPEATED])
    assert left_out(folder, **settings) == expected


def test_rows_of_items_that_the_item_file_lacks(folder):
    folder.write_items([[item, "Hat", "", ""] for item in folder.item_tokens[:4]])
    expected = {"filter_inter_by_user_or_item": 2}
    settings = {"protocol": "random811", "load_col": ITEMS}
    assert left_out(folder, **settings) == expected


def test_repeated_rows_of_the_item_file(folder):
    rows = [[item, "Hat", "", ""] for item in folder.item_tokens]
    folder.write_items([*rows, rows[0], rows[1]])
    assert left_out(folder, load_col=ITEMS) == {}
    assert left_out(folder, "repeated_rows", load_col=ITEMS) == {"tiny.item": 2}


def test_a_record_has_the_counts(runner):
    record = runner("Pop", val_interval={"rating": "[3,inf)"})
    assert record.data["left_out"]["val_interval"] > 0
    record = runner("Pop")
    assert record.data["left_out"] == {}
