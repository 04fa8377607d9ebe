import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender.sasrec import SASRec

from recbole_llm.data.history import UserHistory

WINDOW = 6


@pytest.fixture
def bench(world, clicks):
    world.write(clicks(parity=False))
    return world.bench("SASRecCausal", MAX_ITEM_LIST_LENGTH=WINDOW, n_layers=2, n_heads=2)


def test_states_equal_recboles_forward_on_every_prefix(bench):
    ours = bench.model.eval()
    theirs = SASRec(bench.config, bench.split.train).eval()
    theirs.load_state_dict(ours.state_dict())
    generator = torch.Generator().manual_seed(0)
    item_seq = torch.randint(1, ours.n_items, (5, WINDOW), generator=generator)
    lengths = torch.tensor([6, 5, 3, 2, 1])
    item_seq *= torch.arange(WINDOW) < lengths.unsqueeze(1)
    states = ours.states(item_seq)
    for row, length in enumerate(lengths.tolist()):
        for end in range(1, length + 1):
            prefix = torch.zeros(1, WINDOW, dtype=torch.long)
            prefix[0, :end] = item_seq[row, :end]
            expected = theirs(prefix, torch.tensor([end]))[0]
            torch.testing.assert_close(states[row, end - 1], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours(item_seq, lengths), theirs(item_seq, lengths))


def test_states_do_not_depend_on_the_window_being_cut_to_the_batch(bench):
    model = bench.model.eval()
    item_seq = torch.tensor([[3, 1, 4, 0, 0, 0]])
    torch.testing.assert_close(model.states(item_seq)[:, :3], model.states(item_seq[:, :3]))


def test_loss_is_the_mean_over_every_prefix(bench):
    model = bench.model.eval()
    item_seq = torch.tensor([[3, 1, 4, 0, 0, 0], [5, 9, 0, 0, 0, 0]])
    target = torch.tensor([[1, 4, 7, 0, 0, 0], [9, 2, 0, 0, 0, 0]])
    batch = Interaction({"item_id_list": item_seq, "target_id_list": target})
    theirs = SASRec(bench.config, bench.split.train).eval()
    theirs.load_state_dict(model.state_dict())
    losses = []
    for row, end in ((0, 1), (0, 2), (0, 3), (1, 1), (1, 2)):
        prefix = item_seq[row : row + 1] * (torch.arange(WINDOW) < end)
        sample = Interaction(
            {
                "item_id_list": prefix,
                "item_length": torch.tensor([end]),
                "item_id": target[row : row + 1, end - 1],
            }
        )
        losses.append(theirs.calculate_loss(sample).item())
    assert model.calculate_loss(batch).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_position_sees_its_past_only(bench):
    model = bench.model.eval()
    item_seq = torch.tensor([[3, 1, 4, 7, 5, 9]])
    other = item_seq.clone()
    other[0, 3:] = torch.tensor([8, 2, 6])
    states, changed = model.states(item_seq), model.states(other)
    torch.testing.assert_close(states[:, :3], changed[:, :3])
    assert not torch.isclose(states[:, 3:], changed[:, 3:]).all(dim=-1).any()


def test_a_user_without_training_items_gets_finite_scores(world):
    rows = [(f"u{user}", f"i{item}", item) for user in range(4) for item in range(user, user + 5)]
    world.write(rows)
    for part, chosen in {
        "train": [row for row in rows if row[0] != "u3"],
        "valid": [("u3", "i3", 1), ("u0", "i5", 9)],
        "test": [("u3", "i4", 2), ("u1", "i6", 9)],
    }.items():
        lines = ["user_id:token\titem_id:token\ttimestamp:float"]
        lines += ["\t".join(map(str, row)) for row in chosen]
        (world.folder / f"toy.{part}.inter").write_text("\n".join(lines) + "\n")
    bench = world.bench("SASRecCausal", benchmark_filename=["train", "valid", "test"])
    batch = next(iter(bench.loaders.valid))[0]
    assert 0 in batch["item_length"]
    assert torch.isfinite(bench.scores("valid")).all()
    assert bench.trainer.evaluate(bench.loaders.valid, load_best_model=False)


def test_full_sort_predict_scores_the_state_after_the_last_item(bench):
    model = bench.model.eval()
    item_seq = torch.tensor([[3, 1, 4, 7, 5, 9], [2, 6, 0, 0, 0, 0]])
    lengths = torch.tensor([6, 2])
    states = model.states(item_seq)
    expected = torch.stack([states[0, 5], states[1, 1]]) @ model.item_embedding.weight.T
    batch = Interaction({"item_id_list": item_seq, "item_length": lengths})
    torch.testing.assert_close(model.full_sort_predict(batch), expected)


def test_evaluation_reads_the_most_recent_items(bench):
    history = bench.loaders.test.history
    batch = next(iter(bench.loaders.test))[0]
    for user, items, length in zip(
        batch["user_id"], batch["item_id_list"], batch["item_length"], strict=True
    ):
        mine = history.items[history.indptr[user] : history.indptr[user + 1]]
        assert length == WINDOW < len(mine)
        assert torch.equal(items, mine[-WINDOW:])


def test_exported_users_are_the_states_at_their_last_training_items(bench):
    model = bench.model.eval()
    history = UserHistory.of([bench.split.train])
    exported = model.export()["user_embedding"]
    assert exported.shape == (61, 16) and not exported.requires_grad
    assert not exported[0].any()  # padding has no items
    for user in (1, 7, 60):
        mine = history.items[history.indptr[user] : history.indptr[user + 1]][-WINDOW:]
        expected = model.states(mine.unsqueeze(0))[0, -1]
        torch.testing.assert_close(exported[user], expected, rtol=1e-5, atol=1e-5)


def test_export_is_the_item_table(bench):
    exported = bench.model.export()["item_embedding"]
    assert torch.equal(exported, bench.model.item_embedding.weight)
    assert not exported.requires_grad
