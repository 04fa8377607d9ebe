import numpy as np
import pytest
import torch
from recbole.data.dataloader.general_dataloader import FullSortEvalDataLoader
from recbole.data.utils import create_samplers

from recbole_llm.data.dataset import MultimodalDataset, MultimodalSequentialDataset
from recbole_llm.data.history import UserHistory
from recbole_llm.data.loader import FullRankLoader

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
