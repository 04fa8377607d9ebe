"""What every registered model must do. A new model is tested here by being registered."""

import sys

import numpy as np
import pytest
import torch
from gradients import unreached
from model_settings import LEARN, QUICK

from recbole_llm.config import Config
from recbole_llm.registry import MODELS, get_model_class
from recbole_llm.trainer.checkpoint import load_checkpoint
from recbole_llm.yaml_io import properties_dir, read_yaml

every_model = pytest.mark.parametrize("model", sorted(MODELS))

# Weights that the loss does not depend on: their gradient is zero on paper, and rounding as run.
SILENT = {
    # The same bias on every key adds the same to all scores of a query; softmax leaves it out.
    "SASRecCausal": {f"trm_encoder.layer.{n}.multi_head_attention.key.bias" for n in range(2)},
    # The same bias on every item adds the same to both scores of a pair; BPR takes the difference.
    "FREEDOM": {"project.image.bias", "project.text.bias"},
}


@pytest.fixture
def toy(world, clicks):
    """Random clicks and two modalities."""
    world.write(clicks(parity=False))
    world.add_random_modalities(2)
    return world


def tensors_of(module):
    """Every weight and buffer, sparse ones as their three arrays."""
    found = {}
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.layout is torch.sparse_csr:
            found[f"{name}.crow"] = tensor.crow_indices()
            found[f"{name}.col"] = tensor.col_indices()
            found[f"{name}.value"] = tensor.values()
        elif tensor.is_sparse:
            tensor = tensor.coalesce()
            found[f"{name}.index"], found[f"{name}.value"] = tensor.indices(), tensor.values()
        else:
            found[name] = tensor
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


# ---- learning


@every_model
def test_learns_the_checkerboard(world, clicks, model):
    world.write(clicks(parity=True))
    world.add_random_modalities(2)
    bench = world.bench(model, **LEARN.get(model, QUICK))
    bench.trainer.load_best()
    bench.trainer.evaluate(bench.loaders.test, load_best_model=False)
    ranking, dataset = bench.trainer.ranking, bench.split.dataset

    def parity(field, ids):
        shape = ids.shape
        tokens = dataset.id2token(field, ids.flatten())
        return np.array([int(token[1:]) % 2 for token in tokens]).reshape(shape)

    users = parity("user_id", ranking.users)[:, None]
    assert (parity("item_id", ranking.items) == users).mean() > 0.9


@every_model
def test_random_clicks_stay_near_chance(toy, model):
    bench = toy.bench(model, **LEARN.get(model, QUICK))
    bench.trainer.load_best()
    recall = bench.trainer.evaluate(bench.loaders.test, load_best_model=False)["recall@5"]
    # 5 of 29 unseen items is 0.17; over 60 users the standard error is 0.05. What leaks is near 1
    assert 0.03 < recall < 0.37


@every_model
def test_changed_held_out_rows_leave_training_byte_identical(worlds, clicks, model):
    rows = clicks(parity=False)
    first, second = worlds("first"), worlds("second")
    first.write(rows)
    first.add_random_modalities(2)
    # Stages train for one epoch here: over several, validation would choose another.
    bench = first.bench(model)

    swapped = swap_held_out(rows, bench.split)
    second.write(swapped)
    second.add_random_modalities(2)
    other = second.bench(model)
    for part in (1, 2):  # the change is there
        assert held_out(other.split, part) != held_out(bench.split, part)

    for field in ("user_id", "item_id"):
        tokens = [b.split.dataset.field2id_token[field].tolist() for b in (bench, other)]
        assert tokens[0] == tokens[1]
    assert_same(tensors_of(other.model), tensors_of(bench.model))
    batches, others = bench.batches(), other.batches()
    assert len(batches) == len(others) > 0
    for batch, changed in zip(batches, others, strict=True):
        assert_same(changed.interaction, batch.interaction)
    losses = []
    for each, its_batches in ((bench, batches), (other, others)):
        torch.manual_seed(0)
        each.model.train()
        losses.append(each.model.calculate_loss(its_batches[0]))
    assert torch.equal(*losses)


def held_out(split, part):
    feat = split[1:][part].inter_feat
    tokens = [split.dataset.id2token(f, feat[f]) for f in ("user_id", "item_id")]
    return set(zip(*(t.tolist() for t in tokens), strict=True))


def swap_held_out(rows, split):
    """Swap items between users' held-out rows; counts, times and the order of tokens stay."""
    chosen = held_out(split, 1) | held_out(split, 2)
    # RecBole numbers items as they come, so rows up to the last new item stay as they are.
    seen, last_new = set(), 0
    for place, (_, item, _) in enumerate(rows):
        if item not in seen:
            seen.add(item)
            last_new = place
    places = [p for p, row in enumerate(rows) if row[:2] in chosen and p > last_new]
    rows, pairs = list(rows), {row[:2] for row in rows}
    n_swapped = 0
    rng = np.random.default_rng(0)
    for place in places:
        for other in rng.permutation(places).tolist():
            (user, item, time), (user2, item2, time2) = rows[place], rows[other]
            if (user, item2) not in pairs and (user2, item) not in pairs:
                pairs -= {(user, item), (user2, item2)}
                pairs |= {(user, item2), (user2, item)}
                rows[place], rows[other] = (user, item2, time), (user2, item, time2)
                n_swapped += 1
                break
    assert n_swapped > 20
    return rows


# ---- scoring


@every_model
def test_evaluation_scores_are_deterministic(toy, model):
    bench = toy.bench(model, epochs=1)
    first = bench.scores()
    bench.model.train()
    assert torch.equal(bench.scores(), first)
    assert torch.isfinite(first[:, 1:]).all()
    assert not torch.isclose(first[0], first[1]).all()  # users differ


@every_model
def test_scores_survive_save_and_load(toy, model):
    bench = toy.bench(model, epochs=1)
    bench.trainer._save_checkpoint(0, verbose=False)
    state = load_checkpoint(toy.root / "saved" / "best.pth")
    args = (bench.outputs,) if bench.outputs else ()
    torch.manual_seed(1234)
    fresh = get_model_class(model)(bench.config, bench.split.train, *args)
    loaded = bench._replace(trainer=type(bench.trainer)(bench.config, fresh))
    assert not torch.allclose(loaded.scores(), bench.scores())
    fresh.load_state_dict(state["state_dict"])
    fresh.load_other_parameter(state["other_parameter"])
    assert torch.equal(loaded.scores(), bench.scores())


@every_model
def test_a_batch_is_ranked_as_its_users_alone(toy, model):
    one = toy.bench(model, eval_users=1).scores()
    many = toy.bench(model, eval_users=7).scores()
    torch.testing.assert_close(one, many, rtol=1e-4, atol=1e-5)


@every_model
def test_renamed_ids_permute_the_scores(worlds, clicks, model):
    rows = clicks(parity=False)
    first, second = worlds("first"), worlds("second")
    for world, its_rows in (
        (first, rows),
        (second, rows[::-1]),
    ):  # RecBole numbers ids as they come
        world.write(its_rows)
        world.add_random_modalities(2)
    # By time, so that both are split alike; the parameters below are carried across.
    bench, other = (world.bench(model, protocol="loo") for world in (first, second))
    places = {}
    for field in ("user_id", "item_id"):
        names = bench.split.dataset.field2id_token[field]
        place = {token: i for i, token in enumerate(other.split.dataset.field2id_token[field])}
        places[field] = torch.tensor(
            [place[token] for token in names]
        )  # other's id of each of ours
    users, items = places["user_id"], places["item_id"]
    assert (users != torch.arange(len(users))).any() and (items != torch.arange(len(items))).any()

    theirs = dict(other.model.named_parameters()) | dict(other.model.named_buffers())
    for name, weight in [*bench.model.named_parameters(), *bench.model.named_buffers()]:
        # Weights, and tables that another stage trained; graphs are each model's own.
        if weight.layout is torch.strided and weight.is_floating_point() and weight.dim():
            same = torch.arange(len(weight))
            place = {len(users): users, len(items): items}.get(len(weight), same)
            theirs[name].data[place] = weight.data
    expected, found = bench.scores(), other.scores()

    def by_user(each):
        ids = torch.cat([batch[0]["user_id"] for batch in each.loaders.test])
        return {int(user): row for row, user in enumerate(ids)}

    row, row2 = by_user(bench), by_user(other)
    order = [row2[int(users[user])] for user in row]
    torch.testing.assert_close(found[order][:, items], expected, rtol=1e-4, atol=1e-5)


@every_model
def test_gradients_reach_every_weight_that_the_loss_depends_on(toy, model):
    bench = toy.bench(model, epochs=1)  # after a step: some weights start behind a zero
    bench.model.train()
    torch.manual_seed(0)
    bench.model.calculate_loss(bench.batches()[0]).backward()
    assert unreached(bench.model) == SILENT.get(model, set())


@every_model
def test_trains_under_autocast(toy, model):
    bench = toy.bench(model)
    bench.model.train()
    batch = bench.batches()[0]
    torch.manual_seed(0)
    expected = bench.model.calculate_loss(batch)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = bench.model.calculate_loss(batch)
    loss.backward()
    torch.testing.assert_close(loss.float(), expected, rtol=0.05, atol=0.05)
    for name, weight in bench.model.named_parameters():
        assert weight.grad is None or torch.isfinite(weight.grad).all(), name


# ---- modalities


@every_model
def test_any_number_of_modalities_in_any_float(toy, model):
    losses = []
    for n, dtype in ((1, np.float32), (2, np.float32), (3, np.float32), (3, np.float16)):
        toy.add_random_modalities(n, np.float16)  # rounded alike, so that both types agree
        if dtype is np.float32:
            toy.add_modalities(
                {
                    name: np.load(toy.folder / f"{name}.npy").astype(np.float32)
                    for name in toy.modalities
                }
            )
        bench = toy.bench(model)
        assert bench.split.dataset.loaded_modalities in ([], ["image", "text", "audio"][:n])
        torch.manual_seed(0)
        losses.append(bench.model.calculate_loss(bench.batches()[0]))
    assert torch.isfinite(torch.stack(losses)).all()
    assert torch.equal(losses[2], losses[3])
    if bench.split.dataset.loaded_modalities:
        assert losses[0] != losses[1] != losses[2]  # each one counts


# ---- settings


@every_model
def test_every_key_of_the_yaml_is_read_and_every_key_read_is_known(toy, model, monkeypatch):
    reads, unknown = set(), set()
    getitem = Config.__getitem__

    def recorded(self, key):
        if self.final_config_dict["model"] == model:  # not a stage's
            reads.add(key)
        caller = sys._getframe(1).f_globals["__name__"]
        if caller.startswith("recbole_llm.") and key not in self.final_config_dict:
            unknown.add(f"{key} in {caller}")
        return getitem(self, key)

    monkeypatch.setattr(Config, "__getitem__", recorded)
    bench = toy.bench(model, epochs=2)
    bench.trainer.evaluate(bench.loaders.test)
    shipped = set(read_yaml(properties_dir() / "model" / f"{model}.yaml"))
    resolved = {"protocol"}  # into eval_args, before anything reads it
    assert shipped - reads - resolved == set(), "keys of the YAML that nothing reads"
    unlisted = {"encoding in recbole_llm.data.atomic"}  # RecBole's; None is its default
    assert unknown - unlisted == set(), "keys that are read and that nothing defines"


@every_model
def test_shipped_yaml_gives_type_and_meaning_of_each_key(model):
    text = (properties_dir() / "model" / f"{model}.yaml").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line and not line.startswith(("#", " ")):
            assert "# (" in line, f"{model}.yaml: {line}"
