import numpy as np
import pytest
import torch

from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.data.history import UserHistory


def history(*users: list[int]) -> UserHistory:
    """Histories of users 0, 1, ... written out."""
    indptr = np.concatenate([[0], np.cumsum([len(items) for items in users])])
    items = [item for items in users for item in items]
    return UserHistory(torch.from_numpy(indptr), torch.tensor(items, dtype=torch.long))


def test_lengths():
    assert history([], [5, 6, 7], [], [8]).lengths().tolist() == [0, 3, 0, 1]


def test_last_takes_the_most_recent_oldest_first():
    items, length = history([], [5, 6, 7], [8]).last(torch.tensor([2, 1, 1]), width=2)
    assert items.tolist() == [[8, 0], [6, 7], [6, 7]]
    assert length.tolist() == [1, 2, 2]


@pytest.mark.parametrize("users", [([], [5, 6], []), ([], [], [])])
def test_last_of_a_user_without_items_is_padding(users):
    items, length = history(*users).last(torch.tensor([0, 2]), width=3)
    assert items.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert length.tolist() == [0, 0]


def test_spans_cut_at_the_very_end():
    mine = history([1, 2, 3], [4, 5])
    spans = mine.spans(torch.tensor([3, 4, 0]), torch.tensor([2, 1, 3]), width=3)
    assert spans.tolist() == [[4, 5, 0], [5, 0, 0], [1, 2, 3]]


def build(folder, rows, **overrides):
    folder.write_inter(rows)
    dataset = MultimodalDataset(folder.config(**overrides))
    return dataset, dataset.build()


def tokens(dataset, mine, user):
    internal = dataset.token2id("user_id", user)
    span = mine.items[mine.indptr[internal] : mine.indptr[internal + 1]]
    return dataset.id2token("item_id", span).tolist() if len(span) else []


ROWS = [
    ("ann", "i4", 40),
    ("bob", "i2", 5),
    ("ann", "i1", 10),
    ("ann", "i3", 30),
    ("bob", "i5", 1),
    ("ann", "i2", 20),
    ("bob", "i1", 7),
    ("bob", "i3", 3),
]


def test_of_sorts_by_time_over_the_parts_given_and_no_other(folder):
    dataset, (train, valid, test) = build(folder, ROWS)
    known = UserHistory.of([train])
    assert tokens(dataset, known, "ann") == ["i1", "i2"]
    assert tokens(dataset, known, "bob") == ["i5", "i3"]
    assert known.lengths().tolist() == [0, 2, 2]
    known = UserHistory.of([train, valid])
    assert tokens(dataset, known, "ann") == ["i1", "i2", "i3"]
    assert tokens(dataset, known, "bob") == ["i5", "i3", "i2"]
    known = UserHistory.of([test, valid, train])  # time decides, not the order of the parts
    assert tokens(dataset, known, "ann") == ["i1", "i2", "i3", "i4"]


def test_of_sorts_a_random_split_by_time_too(folder):
    dataset, parts = build(folder, ROWS, protocol="random811")
    assert tokens(dataset, UserHistory.of(parts), "ann") == ["i1", "i2", "i3", "i4"]
    assert tokens(dataset, UserHistory.of(parts), "bob") == ["i5", "i3", "i2", "i1"]


def test_of_keeps_the_order_of_rows_at_equal_times(folder):
    rows = [("ann", f"i{place}", 7) for place in (3, 1, 5, 2, 4)]
    dataset, (train, valid, test) = build(folder, rows)
    assert tokens(dataset, UserHistory.of([train, valid, test]), "ann") == [
        "i3",
        "i1",
        "i5",
        "i2",
        "i4",
    ]


def test_of_without_times_keeps_the_order_of_parts_and_rows(folder):
    folder.write_inter(ROWS)
    eval_args = {
        "split": {"RS": [0.5, 0.25, 0.25]},
        "order": "RO",
        "group_by": "user",
        "mode": "full",
    }
    config = folder.config(
        protocol=None,
        eval_args=eval_args,
        load_col={"inter": ["user_id", "item_id"]},
    )
    dataset = MultimodalDataset(config)
    parts = dataset.build()
    known = UserHistory.of(parts)
    for user in ("ann", "bob"):
        internal = dataset.token2id("user_id", user)
        expected = [
            item
            for part in parts
            for row_user, item in zip(
                part.inter_feat["user_id"].tolist(),
                part.inter_feat["item_id"].tolist(),
                strict=True,
            )
            if row_user == internal
        ]
        span = slice(known.indptr[internal], known.indptr[internal + 1])
        assert known.items[span].tolist() == expected


def test_of_agrees_with_the_split_where_times_are_equal_in_float32(folder):
    # float32 holds Unix seconds to 128 s; the file has the latest first
    rows = [("ann", f"i{place}", 1_700_000_000 + place) for place in (5, 4, 3, 2, 1)]
    dataset, (train, valid, test) = build(folder, rows)
    held_out = [part.inter_feat["item_id"].item() for part in (valid, test)]
    known = UserHistory.of([train, valid, test])
    assert known.items[-2:].tolist() == held_out
    assert tokens(dataset, known, "ann") == ["i1", "i2", "i3", "i4", "i5"]
