from collections import defaultdict

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from recbole_llm.data.sequence_loader import PrefixLoader, WindowLoader, batch_sizes


class FakeDataset:
    """What a sequence loader reads of a training part: users' items in order of time."""

    uid_field, iid_field, time_field = "user_id", "item_id", None

    def __init__(self, *histories):
        self.user_num = len(histories) + 1  # user 0 is padding
        user = [user for user, items in enumerate(histories, start=1) for _ in items]
        item = [item for items in histories for item in items]
        self.inter_feat = {"user_id": torch.tensor(user), "item_id": torch.tensor(item)}

    def __getitem__(self, index):
        """Return a row as torch's own iteration asks for it: its number."""
        return index


def settings(**overrides):
    values = {
        "MAX_ITEM_LIST_LENGTH": 4,
        "LIST_SUFFIX": "_list",
        "ITEM_LIST_LENGTH_FIELD": "item_length",
        "train_batch_size": 2,
        "prefixes_per_user": 0,
        "train_batch_tokens": None,
        "worker": 0,
        "single_spec": True,
        "seed": 2020,
        **overrides,
    }
    return defaultdict(lambda: None, values)  # as RecBole's Config answers


def window_loader(*histories, **overrides):
    return WindowLoader(settings(**overrides), FakeDataset(*histories), None, shuffle=True)


def prefix_loader(*histories, **overrides):
    return PrefixLoader(settings(**overrides), FakeDataset(*histories), None, shuffle=True)


def windows(loader):
    """Every (items, targets) of one epoch, checked to be zero behind the length."""
    found = []
    for batch in loader:
        for items, targets, length in zip(
            batch["item_id_list"], batch["target_id_list"], batch["item_length"], strict=True
        ):
            assert not items[length:].any() and not targets[length:].any()
            found.append((items[:length].tolist(), targets[:length].tolist()))
        assert batch["item_id_list"].size(1) == batch["item_length"].max()
    return sorted(found)


def prefixes(loader):
    """Every (user, items, target) of one epoch, batch by batch."""
    found = []
    for batch in loader:
        assert batch["item_id_list"].size(1) == batch["item_length"].max()
        fields = (batch[k] for k in ("user_id", "item_id_list", "item_length", "item_id"))
        rows = zip(*fields, strict=True)
        found.append([(int(u), tuple(s[:n].tolist()), int(t)) for u, s, n, t in rows])
        for items, length in zip(batch["item_id_list"], batch["item_length"], strict=True):
            assert not items[length:].any()
    return found


# ---- windows


def test_windows_by_hand():
    loader = window_loader([1, 2, 3, 4, 5, 6, 7], [8, 9], [10], [])
    assert windows(loader) == [
        ([1, 2], [2, 3]),
        ([3, 4, 5, 6], [4, 5, 6, 7]),
        ([8], [9]),
    ]


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 13, 17])
@pytest.mark.parametrize("width", [1, 4])
def test_each_item_but_the_first_is_a_target_once(length, width):
    mine = list(range(100, 100 + length))
    others = [1, 2, 3], [7, 8, 9, 10, 11, 12]
    loader = window_loader(others[0], mine, others[1], MAX_ITEM_LIST_LENGTH=width)
    found = windows(loader)
    targets = sorted(target for _, window in found for target in window)
    assert targets == sorted([*mine[1:], *others[0][1:], *others[1][1:]])
    for items, window in found:
        assert len(items) <= width
        for item, target in zip(items, window, strict=True):
            assert target == item + 1
    assert len(found) == loader.sample_size


def test_windows_are_shuffled_the_same_way_under_the_same_seed():
    histories = [[user * 10 + k for k in range(3)] for user in range(1, 20)]
    loader = window_loader(*histories)
    orders = [[batch["item_id_list"].tolist() for batch in loader] for _ in range(2)]
    assert orders[0] != orders[1]
    again = window_loader(*histories)
    assert [batch["item_id_list"].tolist() for batch in again] == orders[0]
    assert len(loader) == len(orders[0]) == 10


def test_windows_come_in_the_order_of_torchs_own_loader():
    histories = [[user * 10 + k for k in range(3)] for user in range(1, 20)]
    ours, torchs = window_loader(*histories), window_loader(*histories)
    for _ in range(3):
        expected = [batch["item_id_list"].tolist() for batch in DataLoader.__iter__(torchs)]
        assert [batch["item_id_list"].tolist() for batch in ours] == expected
    assert torch.equal(ours.generator.get_state(), torchs.generator.get_state())


# ---- windows by tokens


def test_batch_sizes_by_hand():
    # from the longest on: 7 alone is over 6, then 3 + 3, then 2 (with 1 and 1) for three
    assert batch_sizes(torch.tensor([1, 3, 7, 2, 3, 1]), 6) == [1, 2, 3]
    assert batch_sizes(torch.tensor([2, 2, 2]), 1) == [1, 1, 1]
    assert batch_sizes(torch.tensor([], dtype=torch.long), 5) == []


LONG_AND_SHORT = [list(range(100 * u, 100 * u + 2 + u % 9)) for u in range(1, 60)]


def test_batches_by_tokens_hold_every_window_once_and_no_more_slots_than_asked_for():
    loader = window_loader(*LONG_AND_SHORT, train_batch_tokens=24, MAX_ITEM_LIST_LENGTH=6)
    plain = window_loader(*LONG_AND_SHORT, MAX_ITEM_LIST_LENGTH=6)
    for _ in range(3):
        batches = list(loader)
        assert len(batches) == len(loader)
        assert all(batch["item_id_list"].numel() <= 24 for batch in batches)
        rows = [row.tolist() for batch in batches for row in batch["target_id_list"]]
        found = sorted([item for item in row if item] for row in rows)
        assert found == sorted(targets for _, targets in windows(plain))


def test_batches_by_tokens_hold_little_padding_in_an_order_that_is_drawn():
    loader = window_loader(*LONG_AND_SHORT, train_batch_tokens=24, MAX_ITEM_LIST_LENGTH=9)
    first, second = (list(loader) for _ in range(2))
    n_slots = sum(batch["item_id_list"].numel() for batch in first)
    n_targets = sum(int(batch["item_length"].sum()) for batch in first)
    assert n_targets > 0.9 * n_slots
    lengths = [[int(b["item_length"].max()) for b in epoch] for epoch in (first, second)]
    assert lengths[0] != lengths[1] and lengths[0] != sorted(lengths[0], reverse=True)
    shared = [{tuple(b["item_id_list"][:, 0].tolist()) for b in epoch} for epoch in (first, second)]
    assert shared[0] != shared[1]  # which windows share a batch


def test_batches_by_tokens_are_reproduced_from_the_generators_state():
    loader = window_loader(*LONG_AND_SHORT, train_batch_tokens=24)
    list(loader)
    state = loader.generator.get_state()
    second = [batch["item_id_list"].tolist() for batch in loader]
    again = window_loader(*LONG_AND_SHORT, train_batch_tokens=24)
    again.generator.set_state(state)
    assert [batch["item_id_list"].tolist() for batch in again] == second


# ---- prefixes


def test_prefixes_by_hand():
    loader = prefix_loader([1, 2, 3], [], [7], [4, 5])
    samples = sorted(sample for batch in prefixes(loader) for sample in batch)
    assert samples == [(1, (1,), 2), (1, (1, 2), 3), (4, (4,), 5)]
    assert loader.sample_size == 3
    assert len(loader) == 2


def test_a_long_prefix_keeps_its_most_recent_items():
    loader = prefix_loader([1, 2, 3, 4, 5, 6, 7], MAX_ITEM_LIST_LENGTH=3)
    samples = {target: items for batch in prefixes(loader) for _, items, target in batch}
    assert samples == {
        2: (1,),
        3: (1, 2),
        4: (1, 2, 3),
        5: (2, 3, 4),
        6: (3, 4, 5),
        7: (4, 5, 6),
    }


HISTORIES = [list(range(100 * u, 100 * u + 1 + n)) for u, n in enumerate((0, 1, 3, 9, 20), 1)]


@pytest.mark.parametrize("per_user", [1, 3, 50])
def test_prefixes_per_user_bounds_each_user(per_user):
    loader = prefix_loader(*HISTORIES, prefixes_per_user=per_user, train_batch_size=4)
    everything = {s for batch in prefixes(prefix_loader(*HISTORIES)) for s in batch}
    for _ in range(3):
        batches = prefixes(loader)
        samples = [sample for batch in batches for sample in batch]
        assert len(samples) == len(set(samples)) == loader.sample_size
        assert set(samples) <= everything
        counts = np.bincount([user for user, _, _ in samples], minlength=6)
        assert counts[1:].tolist() == [min(n, per_user) for n in (0, 1, 3, 9, 20)]
        assert len(batches) == len(loader)


def test_draws_differ_between_epochs_and_cover_every_prefix_in_time():
    loader = prefix_loader(*HISTORIES, prefixes_per_user=3)
    epochs = [{s for batch in prefixes(loader) for s in batch} for _ in range(60)]
    assert epochs[0] != epochs[1]
    everything = {s for batch in prefixes(prefix_loader(*HISTORIES)) for s in batch}
    assert set.union(*epochs) == everything


def test_draws_are_reproduced_from_the_generators_state():
    loader = prefix_loader(*HISTORIES, prefixes_per_user=3)
    prefixes(loader)
    state = loader.generator.get_state()
    second, third = prefixes(loader), prefixes(loader)
    again = prefix_loader(*HISTORIES, prefixes_per_user=3)
    again.generator.set_state(state)
    assert [prefixes(again), prefixes(again)] == [second, third]
    assert second != third


def test_batches_hold_similar_lengths_in_an_order_that_is_not_sorted():
    histories = [list(range(1, 42)) for _ in range(50)]  # 2,000 prefixes of 1 to 40 items
    loader = prefix_loader(*histories, train_batch_size=20, MAX_ITEM_LIST_LENGTH=40)
    lengths = [batch["item_length"] for batch in loader]
    spread = np.mean([int(n.max() - n.min()) for n in lengths])
    assert spread < 4  # a random batch of 20 spreads over about 36
    means = np.array([n.float().mean() for n in lengths])
    assert (np.diff(means) < 0).mean() > 0.25
    assert sum(len(n) for n in lengths) == 2000


@pytest.mark.parametrize("per_user", [0, 3])
def test_one_epoch_has_as_many_batches_as_it_says(per_user):
    loader = prefix_loader(*HISTORIES, train_batch_size=4, prefixes_per_user=per_user)
    loader.BUCKET = 2  # buckets must not leave part batches in the middle
    sizes = [len(batch) for batch in prefixes(loader)]
    assert len(sizes) == len(loader)
    assert sorted(sizes)[1:] == [4] * (len(sizes) - 1)
