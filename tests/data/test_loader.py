from collections import defaultdict

import numpy as np
import pytest
import torch
from recbole.data.dataloader.general_dataloader import FullSortEvalDataLoader
from recbole.data.utils import create_samplers

from recbole_llm.data.dataset import MultimodalDataset, MultimodalSequentialDataset
from recbole_llm.data.history import UserHistory
from recbole_llm.data.loader import FullRankLoader
from recbole_llm.data.sequence_loader import PrefixLoader, WindowLoader


class FakeDataset:
    """What a sequence loader reads of a training part: users' items in order of time."""

    uid_field, iid_field, time_field = "user_id", "item_id", None

    def __init__(self, *histories):
        self.user_num = len(histories) + 1  # user 0 is padding
        user = [user for user, items in enumerate(histories, start=1) for _ in items]
        item = [item for items in histories for item in items]
        self.inter_feat = {"user_id": torch.tensor(user), "item_id": torch.tensor(item)}


def settings(**overrides):
    values = {
        "MAX_ITEM_LIST_LENGTH": 4,
        "LIST_SUFFIX": "_list",
        "ITEM_LIST_LENGTH_FIELD": "item_length",
        "train_batch_size": 2,
        "prefixes_per_user": 0,
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


# ---- full ranking

ROWS = [
    (user, f"i{item}", time)
    for user, items in {
        "ann": [4, 2, 5, 1, 3],
        "bob": [5, 1, 3, 4],
        "cid": [3, 2, 4],
        "dot": [1, 4, 2, 6],
    }.items()
    for time, item in enumerate(items, start=1)
]


def full_rank(folder, phase, rows=ROWS, model="BPR", **overrides):
    """Return the loader of one phase, RecBole's for the same part, and the parts."""
    folder.write_inter(rows)
    config = folder.config(model, eval_users=2, **overrides)
    kind = MultimodalSequentialDataset if model == "SASRec" else MultimodalDataset
    dataset = kind(config)
    parts = dataset.build()
    samplers = create_samplers(config, dataset, parts)
    place = {"valid": 1, "test": 2}[phase]
    ours = FullRankLoader(config, parts[place], parts[:place])
    theirs = FullSortEvalDataLoader(config, parts[place], samplers[place])
    return ours, theirs, parts


def flat(loader, uid_field="user_id"):
    """Return each row's (user, hidden items, positives), in order."""
    found = []
    for batch, hidden, pos_row, pos_item in loader:
        for row, user in enumerate(batch[uid_field].tolist()):
            masked = None if hidden is None else set(hidden[1][hidden[0] == row].tolist())
            found.append((user, masked, set(pos_item[pos_row == row].tolist())))
    return found


@pytest.mark.parametrize("phase", ["valid", "test"])
@pytest.mark.parametrize("protocol", ["loo", "random811"])
def test_yields_what_recboles_loader_does(folder, phase, protocol):
    rows = [
        (f"u{user}", f"i{item}", time)
        for user in range(7)
        for time, item in enumerate(np.random.default_rng(user).permutation(30)[:20])
    ]
    ours, theirs, _ = full_rank(folder, phase, rows, protocol=protocol)
    assert flat(ours) == flat(theirs)
    assert [len(batch[0]) for batch in ours] == [2, 2, 2, 1]


def test_without_mask_nothing_is_hidden(folder):
    ours, theirs, _ = full_rank(folder, "test", mask_history=False)
    assert [(user, None, pos) for user, _, pos in flat(theirs)] == flat(ours)


@pytest.mark.parametrize("phase", ["valid", "test"])
def test_a_positive_that_is_also_in_the_history_is_not_hidden(folder, phase):
    repeats = [("ann", "i4", 6), ("ann", "i4", 7)]  # bought before, and again at last
    ours, theirs, parts = full_rank(folder, phase, ROWS + repeats)
    assert flat(ours) == flat(theirs)
    ann = parts[0].token2id("user_id", "ann")
    item = parts[0].token2id("item_id", "i4")
    positives = {user: (hidden, pos) for user, hidden, pos in flat(ours)}
    assert item in positives[ann][1] and item not in positives[ann][0]


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("phase", ["valid", "test"])
def test_sequential_samples_hide_every_earlier_item_and_no_other(folder, phase, mask):
    ours, theirs, parts = full_rank(folder, phase, model="SASRec", mask_history=mask)
    last = {"valid": -2, "test": -1}[phase]
    for user, hidden, positives in flat(ours):
        name = parts[0].id2token("user_id", user)
        items = [item for owner, item, _ in ROWS if owner == name]
        ids = [int(parts[0].token2id("item_id", item)) for item in items]
        assert positives == {ids[last]}
        assert hidden == (set(ids[:last]) if mask else None)
    for batch, other in zip(ours, _pairs(theirs), strict=True):
        for key in other.interaction:
            assert torch.equal(batch[0][key], other[key])


def _pairs(loader):
    """RecBole's batches cut into two rows, as eval_users=2 does."""
    for batch, *_ in loader:
        for start in range(0, len(batch), 2):
            yield batch[start : start + 2]


@pytest.mark.parametrize("phase", ["valid", "test"])
def test_history_for_models_that_read_one(folder, phase):
    folder.write_inter(ROWS)
    config = folder.config("BPR", eval_users=3, MAX_ITEM_LIST_LENGTH=2)
    parts = MultimodalDataset(config).build()
    place = {"valid": 1, "test": 2}[phase]
    loader = FullRankLoader(config, parts[place], parts[:place], with_sequence=True)
    known = UserHistory.of(parts[:place])
    n_rows = 0
    for batch, *_ in loader:
        expected = known.last(batch["user_id"], 2)
        assert torch.equal(batch["item_id_list"], expected[0])
        assert torch.equal(batch["item_length"], expected[1])
        n_rows += len(batch)
    assert n_rows == 4  # one a user


def test_users_without_a_positive_are_not_ranked(folder):
    # three items a user leave none for validation in 8:1:1
    ours, theirs, _ = full_rank(folder, "test", protocol="random811")
    assert [row[0] for row in flat(ours)] == [row[0] for row in flat(theirs)]
    assert all(positives for _, _, positives in flat(ours))
