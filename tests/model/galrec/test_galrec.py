import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gradients import lone_queries, unreached
from peft import PeftModel
from recbole.data.interaction import Interaction
from recbole.utils import init_seed

from recbole_llm.config import Config
from recbole_llm.data.loading import load_split
from recbole_llm.llm.backbone import load_backbone
from recbole_llm.model.galrec.galrec import PAIRS, GALRec
from recbole_llm.trainer.checkpoint import load_checkpoint
from recbole_llm.trainer.trainer import HarnessTrainer

WIDTH = 6
LOSSES = {"use_l1", "use_l2", "use_l3"}
T5_LORA = {"lora_targets": ["q", "wo"]}


class Made:
    """A GALRec on random external embeddings."""

    def __init__(self, world, **overrides):
        self.config = world.config("GALRec", **overrides)
        self.split = load_split(self.config)
        dataset, generator = self.split.dataset, torch.Generator().manual_seed(0)
        self.outputs = {
            "external": {
                "user_embedding": torch.randn(dataset.user_num, WIDTH, generator=generator),
                "item_embedding": torch.randn(dataset.item_num, WIDTH, generator=generator),
            }
        }
        self.model = self.build()

    def build(self, outputs=None):
        """Build the model anew, from the same seed, with LoRA that does something."""
        init_seed(self.config["seed"], True)
        model = GALRec(self.config, self.split.train, outputs or self.outputs)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.requires_grad and "scale" not in name:
                    weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
        return model

    def samples(self, n=5):
        """Samples of training: users, a history each, and the item that followed it."""
        model, feat = self.model, self.split.train.inter_feat
        rows = torch.arange(0, n * 11, 11)  # of different users
        users, items = feat[model.USER_ID], feat[model.ITEM_ID]
        history = torch.zeros(n, 4, dtype=torch.long)
        for place, row in enumerate(rows):
            others = items[(users == users[row]) & (items != items[row])][: 2 + place % 3]
            history[place, : len(others)] = others
        return Interaction(
            {
                model.USER_ID: users[rows],
                model.ITEM_SEQ: history,
                model.ITEM_SEQ + "_length": (history > 0).sum(1),
                model.ITEM_ID: items[rows],
            }
        )

    def edges(self):
        feat = self.split.train.inter_feat
        return set(zip(feat["user_id"].tolist(), feat["item_id"].tolist(), strict=True))


@pytest.fixture
def factory(world, clicks):
    world.write(clicks(parity=False))
    return lambda **overrides: Made(world, **overrides)


def words_of(model, ids, mask):
    """Return each row's tokens by kind: words w, users u and items i."""
    n_words, n_users = model.reader.n_words, model.n_users
    rows = []
    for row, real in zip(ids.tolist(), mask.tolist(), strict=True):
        tokens = []
        for token in (t for t, m in zip(row, real, strict=True) if m):
            if token < n_words:
                tokens.append(("w", token))
            elif token < n_words + n_users:
                tokens.append(("u", token - n_words))
            else:
                tokens.append(("i", token - n_words - n_users))
        rows.append(tokens)
    return rows


# ---- hops and prompts


def test_hops_of_a_hand_made_graph(world):
    # u0: i0 i1, u1: i1 i2, u2: i2 i3 i1; two more rows a user are held out
    chosen = {"u0": ["i0", "i1"], "u1": ["i1", "i2"], "u2": ["i2", "i3", "i1"]}
    rows = [
        (user, item, time)
        for user, items in chosen.items()
        for time, item in enumerate([*items, "held0", "held1"])
    ]
    world.write(rows)
    made = Made(world, n_hops=3, n_second_order=5, n_third_order=5)
    model, dataset = made.model.eval(), made.split.dataset
    u = [dataset.token2id("user_id", f"u{k}") for k in range(3)]
    i = [dataset.token2id("item_id", f"i{k}") for k in range(4)]

    def hops(side, node, first):
        found = model.hops(side, torch.tensor([node]), torch.tensor([first]))
        base = model.reader.n_words
        shift = [base, base + model.n_users]
        if side == "item":
            shift.reverse()
        return [
            sorted(token - shift[hop % 2] for token in level[0].tolist() if token >= 0)
            for hop, level in enumerate(found)
        ]

    found = hops("user", u[0], [i[0], i[1], 0])
    assert found[0] == [u[0]] and found[1] == sorted([i[0], i[1]])
    assert found[2] == sorted([u[1], u[2]])  # through i1; nobody else has i0; not u0 itself
    assert found[3] == sorted([i[2], i[2], i[3]])  # i2 of u1, i2 and i3 of u2; not back to i1
    found = hops("item", i[1], [u[0], u[1]])
    assert found[1] == sorted([u[0], u[1]])
    assert found[2] == sorted([i[0], i[2]])
    assert found[3] == [u[2]]  # through i2; i0 has no other user
    model.train()  # all there is, in any order, when no more is asked for
    assert hops("item", i[1], [u[0], u[1]]) == found


def test_prompts_hold_training_neighbours_and_neither_target_nor_user(factory):
    made = factory(n_hops=3, n_first_order=60, n_second_order=4)
    model, samples, edges = made.model.train(), made.samples(), made.edges()
    torch.manual_seed(0)
    prompts = model.prompts("user", samples) | model.prompts("item", samples)
    assert set(prompts) == {(side, hop) for side in ("user", "item") for hop in range(4)}
    users, items = (samples[name].tolist() for name in ("user_id", "item_id"))
    rows = {view: words_of(model, *prompt) for view, prompt in prompts.items()}
    for place, (user, item) in enumerate(zip(users, items, strict=True)):
        history = [it for it in samples[model.ITEM_SEQ][place].tolist() if it]
        nodes = {
            view: [token for token in tokens[place] if token[0] != "w"]
            for view, tokens in rows.items()
        }
        assert nodes["user", 0] == [("u", user)] and nodes["item", 0] == [("i", item)]
        assert nodes["user", 1] == [("u", user), *(("i", it) for it in history)]
        second = nodes["user", 2][len(history) + 1 :]
        assert len(second) == len([it for it in history for _ in range(4)])  # 4 for each
        for nth, (kind, other) in enumerate(second):
            assert kind == "u" and other != user and (other, history[nth // 4]) in edges
        first = nodes["item", 1][1:]
        others = {("u", other) for other, its in edges if its == item and other != user}
        assert set(first) == others and len(first) == len(others) > 3
        second = nodes["item", 2][len(first) + 1 :]
        assert len(second) == 4 * len(first) and ("i", item) not in second
        for nth, (kind, other) in enumerate(second):
            assert kind == "i" and (first[nth // 4][1], other) in edges


def test_training_draws_anew_and_evaluation_does_not(factory):
    made = factory()
    model, samples = made.model, made.samples()
    model.train()
    drawn = [model.prompts("user", samples)["user", 2][0] for _ in range(2)]
    assert drawn[0].shape == drawn[1].shape and not torch.equal(*drawn)
    model.eval()
    fixed = [model.prompts("user", samples)["user", 2][0] for _ in range(2)]
    assert torch.equal(*fixed)


def test_held_out_rows_are_in_no_prompt(worlds, clicks):
    rows = clicks(parity=False)
    held = {}
    for user, item, time in rows:  # each user's last two rows
        held[user] = {**held.get(user, {}), time: item}
    last = {user: sorted(times)[-2:] for user, times in held.items()}
    # Between users the held-out items go round; who has which in training stays.
    users = sorted(held)
    taken = {user: set(held[user].values()) for user in users}
    swapped = {}
    for user, other in zip(users, users[1:] + users[:1], strict=True):
        for time in last[user]:
            item = held[other][time]
            if item not in taken[user]:
                swapped[user, time] = item
                taken[user].add(item)
    assert len(swapped) > 30
    changed = [(user, swapped.get((user, time), item), time) for user, item, time in rows]
    # RecBole numbers ids as they come: a user of every item first, with one row each.
    anchors = [(f"a{k}", f"i{k + step}", step) for k in range(40) for step in range(3) if k < 38]
    prompts = []
    for name, its_rows in (("first", rows), ("second", changed)):
        world = worlds(name)
        world.write([*anchors, *its_rows])
        made = Made(world, n_hops=3)
        made.model.train()
        torch.manual_seed(0)
        samples = made.samples(40)
        prompts.append(
            {**made.model.prompts("user", samples), **made.model.prompts("item", samples)}
        )
        tokens = {f: made.split.dataset.field2id_token[f].tolist() for f in ("user_id", "item_id")}
        prompts[-1]["tokens"] = tokens
        prompts[-1]["test"] = made.split.test.inter_feat["item_id"].tolist()
    assert prompts[0].pop("test") != prompts[1].pop("test")  # the change is there
    assert prompts[0].pop("tokens") == prompts[1].pop("tokens")
    for view, (ids, mask) in prompts[0].items():
        assert torch.equal(prompts[1][view][0], ids) and torch.equal(prompts[1][view][1], mask)


# ---- losses


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def expected_loss(model, samples, prompts, used, temperature, weight):
    """Return eq. 18 from representations, in plain numpy; the queues as they are."""
    reader = model.reader
    with torch.no_grad():
        meaning = {view: reader(*prompt).double().numpy() for view, prompt in prompts.items()}
        answer = reader.read(*prompts["user", model.n_hops]).answer
        logits = (
            (answer @ reader.item_emb().T * model.score_log_scale.exp()).double().numpy()[:, 1:]
        )
    items, users = (samples[name].numpy() for name in ("item_id", "user_id"))
    target = logits[np.arange(len(items)), items - 1]
    total = np.mean(np.log(np.exp(logits).sum(axis=1)) - target)

    def contrast(anchor, key):
        queue = model.queues[f"{key[0]}_{key[1]}"]
        nodes = users if key[0] == "user" else items
        terms = []
        for row, node in enumerate(nodes):
            a, p = unit(meaning[anchor][row]), unit(meaning[key][row])
            negatives = [
                unit(k)
                for k, other in zip(queue.keys.double().numpy(), queue.nodes.tolist(), strict=True)
                if other not in (0, node)
            ]
            exps = [np.exp(a @ k / temperature) for k in [p, *negatives]]
            terms.append(-np.log(exps[0] / sum(exps)))
        return np.mean(terms)

    by_name = {
        "use_l1": [(("user", 0), ("user", 2)), (("item", 0), ("item", 2))],
        "use_l2": [(("item", 1), ("user", 2)), (("user", 1), ("item", 2))],
        "use_l3": [(("item", 1), ("user", 0)), (("user", 1), ("item", 0))],
    }
    for name in used:
        total += weight[name] * sum(contrast(*pair) for pair in by_name[name])
    return total


@pytest.mark.parametrize("used", [LOSSES, {"use_l1"}, {"use_l2"}, {"use_l3"}, set()])
def test_loss_equals_numpy(factory, used):
    weight = {"use_l1": 0.3, "use_l2": 0.5, "use_l3": 0.7}
    made = factory(
        **{name: name in used for name in LOSSES},
        **{f"{name[4:]}_weight": value for name, value in weight.items()},
        temperature=0.5,
        lora_dropout=0.0,
    )
    model, samples = made.model.eval(), made.samples()  # eval: the same neighbours every time
    for queue in model.queues.values():
        queue.push(torch.randn(20, 16), torch.randint(1, 40, (20,)))
    prompts = model.prompts("user", samples) | model.prompts("item", samples)
    expected = expected_loss(model, samples, prompts, used, 0.5, weight)
    assert model.calculate_loss(samples).item() == pytest.approx(expected, rel=1e-4)


def test_switches_choose_pairs_and_queues(factory):
    def queues(**switches):
        return set(factory(**switches).model.queues)

    assert queues() == {"user_0", "user_2", "item_0", "item_2"}
    assert queues(use_l3=False) == {"user_2", "item_2"}
    assert queues(use_l1=False, use_l2=False) == queues(n_hops=1) == {"user_0", "item_0"}
    assert queues(n_hops=3) - queues() == {"user_3", "item_3"}
    without = factory(use_gal=False).model
    assert not without.queues and without.momentum_weights is None
    assert {pair.loss for pair in PAIRS} == {"l1", "l2", "l3"}


@pytest.mark.parametrize("n_hops", [1, 2, 3])
def test_every_number_of_hops_trains(factory, n_hops):
    made = factory(n_hops=n_hops)
    model, samples = made.model.train(), made.samples()
    for _ in range(2):
        model.calculate_loss(samples).backward()
        model.after_backward()
    missed = [n for n, w in model.named_parameters() if w.requires_grad and w.grad is None]
    assert not missed
    assert all((queue.nodes > 0).sum() == 10 for queue in model.queues.values())


def test_gal_rows_takes_so_many_samples(factory):
    made = factory(gal_rows=2)
    made.model.train().calculate_loss(made.samples()).backward()
    made.model.after_backward()
    for name, queue in made.model.queues.items():
        held = queue.nodes[queue.nodes > 0].tolist()
        assert len(held) == 2
        assert set(held) <= set(made.samples()[f"{name.split('_')[0]}_id"].tolist())


# ---- queues and momentum


def test_queues_take_the_momentum_encoders_keys_after_the_backward_pass(factory):
    made = factory(momentum=0.5, lora_dropout=0.0)
    model, samples = made.model.eval(), made.samples()
    with torch.no_grad():  # theta_q moves away from theta_k
        for weight in model.reader.parameters():
            if weight.requires_grad:
                weight.mul_(1.5)
    loss = model.calculate_loss(samples)
    assert not any(queue.nodes.any() for queue in model.queues.values())
    loss.backward()
    model.after_backward()
    prompts = model.prompts("user", samples) | model.prompts("item", samples)
    users = samples["user_id"].tolist()
    assert len(set(users)) == 5
    order = [users.index(node) for node in model.queues["user_0"].nodes[:5].tolist()]
    for name, queue in model.queues.items():
        side, hop = name.split("_")
        slow = model.momentum_weights.call(model.reader, *prompts[side, int(hop)])
        expected = F.normalize(slow, dim=-1)[order]
        torch.testing.assert_close(queue.keys[:5], expected, rtol=1e-4, atol=1e-5)
        assert queue.nodes[:5].tolist() == samples[f"{side}_id"][order].tolist()
        with torch.no_grad():
            fast = F.normalize(model.reader(*prompts[side, int(hop)]), dim=-1)[order]
        assert not torch.allclose(fast, expected, atol=1e-3)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_momentum_follows_each_step_of_the_optimiser_once(factory, accumulate):
    made = factory(
        momentum=0.8, gradient_accumulation_steps=accumulate, learning_rate=0.05,
        warmup_epochs=0, lr_schedule="constant", weight_decay=0.0,
    )  # fmt: skip
    model = made.model
    trainer = HarnessTrainer(made.config, model)
    name = "mapping.0.weight"
    weight = dict(model.reader.named_parameters())[name]
    slow = model.momentum_weights.get_buffer(name.replace(".", "/"))
    expected, seen = slow.clone(), []
    step = trainer.optimizer.step

    def recorded(*args, **kwargs):
        step(*args, **kwargs)
        seen.append(weight.detach().clone())

    trainer.optimizer.step = recorded
    for _ in range(2):  # 3 batches an epoch: the last group of two has one
        trainer._train_epoch([made.samples()] * 3, 0)
    assert len(seen) == 2 * (3 if accumulate == 1 else 2)
    for fast in seen:
        expected = 0.8 * expected + 0.2 * fast
    torch.testing.assert_close(slow, expected)


def test_a_loss_that_is_only_looked_at_changes_nothing(factory):
    made = factory()
    model = made.model.train()
    before = copy.deepcopy(model.state_dict())
    model.calculate_loss(made.samples(3))
    model.eval()
    with torch.no_grad():
        model.calculate_loss(made.samples(3))
    model.after_backward()  # of another loss: the one without gradients left no keys
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_keys_of_a_micro_batch_are_there_for_the_next_one(factory):
    made = factory(gradient_accumulation_steps=2)
    model, held = made.model, []
    calculate_loss = model.calculate_loss

    def recorded(interaction):
        held.append(int((model.queues["user_2"].nodes > 0).sum()))
        return calculate_loss(interaction)

    model.calculate_loss = recorded
    HarnessTrainer(made.config, model)._train_epoch([made.samples()] * 3, 0)
    assert held == [0, 5, 10]
    assert int((model.queues["user_2"].nodes > 0).sum()) == 15, "each batch once"


def test_momentum_copies_what_is_trained_and_nothing_of_the_trunk(factory):
    model = factory().model
    trained = {n for n, w in model.reader.named_parameters() if w.requires_grad}
    assert set(model.momentum_weights.names) == trained
    assert {n.split(".")[0] for n in trained} == {"llm", "mapping"}
    assert all("lora_" in n for n in trained if n.startswith("llm."))


# ---- external embeddings


def test_external_embedding_chooses_the_stage(factory, world):
    factory()

    def stages(name):
        over = {"external_stage": {}, "modalities": {"text": "text.npy"}}
        config = world.config("GALRec", external_embedding=name, **over)
        return {k: spec.model for k, spec in GALRec.required_stages(config).items()}

    assert stages("lightgcn") == {"external": "LightGCN"}
    assert stages("sasrec") == {"external": "SASRecCausal"}
    assert stages("text") == {}
    with pytest.raises(ValueError, match="must be lightgcn, sasrec or text, got .*='sasrek'"):
        stages("sasrek")


@pytest.mark.parametrize("name", ["sasrec", "text"])
def test_a_user_is_the_mean_of_their_training_items(factory, world, name):
    world.write(sorted({(u, i, t) for u, i, t in _rows(world)}))
    world.add_random_modalities(2)
    made = factory(external_embedding=name, external_stage={}, modalities=world.modalities)
    model = made.model
    items = made.split.dataset.modality("text") if name == "text" else None
    if items is None:
        items = made.outputs["external"]["item_embedding"].clone()
        items[0] = 0
    means = np.zeros((model.n_users, items.size(1)))
    for user in range(1, model.n_users):
        mine = [item for other, item in made.edges() if other == user]
        means[user] = items[mine].mean(dim=0)
    expected = means / means[1:].std(ddof=1)
    np.testing.assert_allclose(model.reader.user_table.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert not model.reader.item_table[0].any()


@pytest.mark.parametrize("chosen", [{"external_embedding": "lightgcn"}, {"sasrec_user": "last"}])
def test_a_user_is_what_the_stage_exports(factory, chosen):
    made = factory(**{"external_embedding": "sasrec", "external_stage": {}, **chosen})
    users = made.outputs["external"]["user_embedding"]
    torch.testing.assert_close(made.model.reader.user_table, users / users[1:].std())


def test_text_comes_from_the_modality(factory, world):
    world.write(sorted({(u, i, t) for u, i, t in _rows(world)}))
    world.add_random_modalities(2)  # image and text
    made = factory(external_embedding="text", modalities=world.modalities)
    text = made.split.dataset.modality("text")
    torch.testing.assert_close(made.model.reader.item_table, text / text[1:].std())
    with pytest.raises(ValueError, match="has no modality 'words', it has: image, text"):
        factory(external_embedding="text", text_modality="words", modalities=world.modalities)


def _rows(world):
    lines = (world.folder / "toy.inter").read_text().splitlines()[1:]
    return [line.split("\t") for line in lines]


@pytest.mark.parametrize("name", ["lightgcn", "sasrec", "text"])
def test_each_external_embedding_runs_through_its_stage(world, clicks, name):
    world.write(clicks(parity=False))
    world.add_random_modalities(2)
    stage = {"hidden_size": 16, "inner_size": 32} if name == "sasrec" else {"embedding_size": 16}
    bench = world.bench(
        "GALRec", external_embedding=name, external_stage={"epochs": 1, **stage}, epochs=1,
        prefixes_per_user=1,
    )  # fmt: skip
    assert set(bench.outputs) == (set() if name == "text" else {"external"})
    assert torch.isfinite(bench.scores()[:, 1:]).all()


# ---- T5


def test_t5_trains_and_ranks(world, clicks, tiny_t5):
    world.write(clicks(parity=False))
    bench = world.bench("GALRec", llm_path=tiny_t5, epochs=1, prefixes_per_user=2, **T5_LORA)
    model = bench.model
    assert model.reader.is_encoder_decoder
    eos = [pieces[-1] for pieces in model.templates.values()]
    assert eos == [[1]] * len(eos)
    scores = bench.scores()
    assert torch.isfinite(scores[:, 1:]).all() and not torch.allclose(scores[0], scores[1])
    assert all(queue.nodes.all() for queue in model.queues.values())
    model.train()
    model.calculate_loss(bench.batches()[0]).backward()
    trained = {n: w for n, w in model.named_parameters() if w.requires_grad}
    assert all(w.grad is not None for w in trained.values())
    assert unreached(model) == lone_queries(model)
    for part in ("encoder.", "decoder."):
        assert {n for n in trained if f".{part}" in n} - unreached(model)


# ---- what is saved


def test_state_holds_what_is_trained_and_the_queues(factory):
    model = factory().model
    state = model.state_dict()
    parts = {name.split(".")[0] for name in state}
    assert parts == {"reader", "score_log_scale", "momentum_weights", "queues"}
    frozen = [n for n in state if n.startswith("reader.llm.") and "lora_" not in n]
    assert not frozen and not [n for n in state if "table" in n]
    assert {n.split(".")[0] for n in factory(use_gal=False).model.state_dict()} == {
        "reader", "score_log_scale"
    }  # fmt: skip


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loaded_model_trains_on_as_the_saved_one(factory, accumulate):
    made = factory(lora_dropout=0.0, gradient_accumulation_steps=accumulate)
    trainer = HarnessTrainer(made.config, made.model)
    trainer._train_epoch([made.samples()] * 3, 0)
    trainer._save_checkpoint(0, verbose=False)
    fresh = made.build()
    fresh.load_state_dict(load_checkpoint(Path(trainer.saved_model_file))["state_dict"])
    losses = []
    for model in (made.model, fresh):
        model.train()
        torch.manual_seed(0)
        losses.append(model.calculate_loss(made.samples()))
    assert torch.equal(*losses)


class Batches(list):
    """Batches in a fixed order, with the random generator that a loader has."""

    generator = torch.Generator()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_training_equals_an_uninterrupted_one(factory, accumulate):
    made = factory(gradient_accumulation_steps=accumulate, lora_dropout=0.1, momentum=0.5)
    data = Batches([made.samples()] * 3)  # with accumulation, the last group of an epoch has one
    torch.manual_seed(1)
    straight = HarnessTrainer(made.config, made.model)
    straight._train_epoch(data, 0)
    straight._save_last(0, data, finished=False)
    straight._train_epoch(data, 1)
    fresh = made.build()
    resumed = HarnessTrainer(made.config, fresh)
    assert resumed.resume(data)
    resumed._train_epoch(data, 1)
    for name, value in made.model.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name


def test_a_state_of_an_older_version_is_not_resumed(factory):
    made = factory()
    data = Batches([made.samples()])
    trainer = HarnessTrainer(made.config, made.model)
    trainer._train_epoch(data, 0)
    trainer._save_last(0, data, finished=False)
    content = torch.load(trainer.last_file, weights_only=True)
    for name in ("version", "has_checksum"):  # as commit 5be519d wrote it
        del content[name]
    content["counters"] |= {"n_backward": 1, "batches_a_step": 1}
    torch.save(content, trainer.last_file)
    message = r"last\.pth \(saved by recbole-llm 0\.1\.0 or older\) keeps n_backward, which GALRec"
    with pytest.raises(ValueError, match=message):
        HarnessTrainer(made.config, made.build()).resume(data)


def test_adapter_folder_is_one_that_peft_reads(factory, tiny_llm, tmp_path):
    model = factory().model.eval()
    model.export_adapter(tmp_path / "adapter")
    adapted = PeftModel.from_pretrained(load_backbone(tiny_llm).model, tmp_path / "adapter").eval()
    words = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(0))
    expected = model.reader.llm(inputs_embeds=words).last_hidden_state
    torch.testing.assert_close(adapted(inputs_embeds=words).last_hidden_state, expected)


def test_the_trunk_stays_as_it_is(factory):
    made = factory()
    before = copy.deepcopy(dict(made.model.named_parameters()))
    HarnessTrainer(made.config, made.model)._train_epoch([made.samples()] * 2, 0)
    moved = {n for n, w in made.model.named_parameters() if not torch.equal(w, before[n])}
    assert moved == {n for n, w in made.model.named_parameters() if w.requires_grad}


# ---- settings


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"n_hops": 4}, "n_hops must be an integer in 1..3, got n_hops=4"),
        ({"n_second_order": 0}, "n_second_order must be an integer >= 1, got n_second_order=0"),
        ({"queue_size": 2.5}, "queue_size must be an integer >= 1, got queue_size=2.5"),
        ({"momentum": 2.0}, r"momentum must be a number in \[0, 1\], got momentum=2\.0"),
        ({"temperature": 0.0}, "temperature must be a number > 0, got temperature=0.0"),
        ({"gal_rows": 0}, "gal_rows must be an integer >= 1, or none, got gal_rows=0"),
    ],
)
def test_bad_settings(factory, setting, message):
    with pytest.raises(ValueError, match=message):
        factory(**setting)


def test_scores_start_with_unit_variance(factory):
    made = factory()
    init_seed(2020, True)
    model = GALRec(made.config, made.split.train, made.outputs).eval()
    users = Interaction(
        {"user_id": torch.arange(1, 9), model.ITEM_SEQ: torch.zeros(8, 1, dtype=torch.long)}
    )
    scores = model.full_sort_predict(users).view(8, -1)[:, 1:]
    assert 0.1 < scores.std(dim=1).mean().item() < 10


def test_defaults_are_the_papers():
    config = Config("GALRec", "ml-100k")
    assert config["protocol"] == "loo" and config["mask_history"] is False
    assert config["metrics"] == ["Recall", "NDCG", "Hit"] and config["topk"] == [5, 10, 20]
    assert config["queue_size"] == 512 and config["n_second_order"] == 8
    assert config["train_batch_size"] * config["gradient_accumulation_steps"] == 64
