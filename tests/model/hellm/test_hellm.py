import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from gradients import unreached
from peft import PeftModel
from recbole.data.interaction import Interaction
from recbole.utils import init_seed

from recbole_llm.data.loading import build_loaders, load_split
from recbole_llm.llm.backbone import load_backbone
from recbole_llm.model.hellm.hellm import HeLLM
from recbole_llm.trainer.checkpoint import load_checkpoint
from recbole_llm.trainer.trainer import HarnessTrainer

D_GRAPH, D_SEQUENCE = 6, 5
NO_DROPOUT = {"lora_dropout": 0.0, "prefix_dropout": 0.0}


class Made:
    """A HeLLM on random stage outputs."""

    def __init__(self, world, **overrides):
        self.config = world.config("HeLLM", **{"training": "prefixes", **overrides})
        self.split = load_split(self.config)
        generator = torch.Generator().manual_seed(0)
        n_items = self.split.dataset.item_num
        self.outputs = {
            name: {"item_embedding": torch.randn(n_items, width, generator=generator)}
            for name, width in (("graph", D_GRAPH), ("sequence", D_SEQUENCE))
        }
        self.model = self.build()

    def build(self, **outputs):
        """Build the model anew, from the same seed."""
        init_seed(self.config["seed"], True)
        model = HeLLM(self.config, self.split.train, {**self.outputs, **outputs}).eval()
        shake(model)
        return model


def shake(model):
    """Move every trainable weight from its initial value: LoRA starts as nothing at all."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))


@pytest.fixture
def factory(world, clicks):
    world.write(clicks(parity=False))
    return lambda **overrides: Made(world, **overrides)


@pytest.fixture
def other_llm(tiny_llm, tmp_path):
    """Make a copy of the tiny language model with other weights or other sizes."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    def make(**sizes):
        config = AutoConfig.from_pretrained(tiny_llm)
        for name, size in sizes.items():
            setattr(config, name, size)
        torch.manual_seed(99)
        folder = tmp_path / "other-llm"
        AutoModel.from_config(config).save_pretrained(folder)
        AutoTokenizer.from_pretrained(tiny_llm).save_pretrained(folder)
        return str(folder)

    return make


def batch(*histories, targets=None, width=None):
    width = width or max(map(len, histories))
    rows = [list(items) + [0] * (width - len(items)) for items in histories]
    fields = {
        "item_id_list": torch.tensor(rows, dtype=torch.long),
        "item_length": torch.tensor([len(items) for items in histories]),
    }
    if targets is not None:
        fields["item_id"] = torch.tensor(targets)
    return Interaction(fields)


HISTORIES = [(3, 1, 4, 15, 9, 2, 6), (5, 3), (8,), (), (9, 7, 9, 3, 2)]
TARGETS = [7, 1, 39, 12, 40]


@torch.no_grad()
def scores(model, *histories, width=None):
    found = model.full_sort_predict(batch(*histories, width=width))
    return found.view(len(histories), model.n_items)


# ---- scores


@pytest.mark.parametrize("use_graph_prefix", [True, False])
def test_a_padded_batch_scores_as_one_by_one(factory, use_graph_prefix):
    model = factory(use_graph_prefix=use_graph_prefix).model
    together = scores(model, *HISTORIES)
    for row, history in enumerate(HISTORIES):
        alone = scores(model, history, width=max(len(history), 1))
        torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-4)
    assert together.std(dim=0).min() > 1e-2  # users differ by far more than that


@pytest.mark.llm
def test_a_padded_batch_scores_as_one_by_one_on_the_embedded_model(factory):
    cache = Path(__file__).parents[3] / "saved" / "cache"
    made = factory(llm_path="smollm2-135m", llm_num_layers=3, prompt="hellm", cache_dir=str(cache))
    together = scores(made.model, *HISTORIES)
    for row, history in enumerate(HISTORIES):
        alone = scores(made.model, history, width=max(len(history), 1))
        torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-4)
    assert together.std(dim=0).min() > 1e-2


def test_order_and_every_item_of_the_history_count(factory):
    model = factory().model
    first = scores(model, (3, 1, 4))
    for other in [(1, 3, 4), (3, 1, 5), (2, 1, 4), (1, 4)]:
        assert (scores(model, other) - first).abs().max() > 1e-3


def test_evaluation_reads_the_most_recent_items(factory):
    made = factory(MAX_ITEM_LIST_LENGTH=3, eval_users=8)
    loaders = build_loaders(made.config, made.split)
    history = loaders.test.history
    for interaction, *_ in loaders.test:
        found = made.model.full_sort_predict(interaction).view(-1, made.model.n_items)
        users = interaction["user_id"].tolist()
        mine = [history.items[history.indptr[u] : history.indptr[u + 1]].tolist() for u in users]
        assert all(len(items) == 11 for items in mine)
        expected = scores(made.model, *[items[-3:] for items in mine])
        torch.testing.assert_close(found, expected)
        break


def test_a_user_without_items_is_scored(factory):
    model = factory().model
    for histories in [((), ()), ((), (3,))]:
        assert torch.isfinite(scores(model, *histories, width=4)).all()


def test_item_tokens_start_as_large_as_words(factory):
    made = factory()
    init_seed(2020, True)
    model = HeLLM(made.config, made.split.train, made.outputs)
    words = model.llm.get_input_embeddings().weight.std()
    assert model.item_projection(model.item_table[1:]).std().item() == pytest.approx(
        words.item(), 1e-4
    )


def test_item_table_is_graph_and_sequence_of_unit_variance(factory):
    made = factory()
    graph, sequence = (made.outputs[name]["item_embedding"] for name in ("graph", "sequence"))
    scaled = made.build(graph={"item_embedding": 1000 * graph}).item_table
    torch.testing.assert_close(scaled, made.model.item_table)
    expected = torch.cat([graph / graph[1:].std(), sequence / sequence[1:].std()], dim=1)
    torch.testing.assert_close(made.model.item_table, expected)


@pytest.mark.parametrize("training", ["windows", "prefixes"])
@pytest.mark.parametrize(
    "head",
    [
        {"head": "tied"},
        {"head": "frozen"},
        {"head": "full", "head_init": "items"},
        {"head": "full", "head_init": "random"},
    ],
)
def test_head_starts_finite_and_of_moderate_scores(factory, head, training):
    made = factory(training=training, **head)
    init_seed(2020, True)
    model = HeLLM(made.config, made.split.train, made.outputs).eval()
    found = scores(model, *HISTORIES)
    assert torch.isfinite(found).all() and found.abs().max() < 20


def test_unknown_head_init_is_an_error(factory):
    with pytest.raises(ValueError, match="head_init must be random or items.*'item'"):
        factory(head="full", head_init="item")


# ---- the loss and its gradients


def test_loss_is_cross_entropy_over_the_real_items(factory):
    model = factory().model
    found = model.calculate_loss(batch(*HISTORIES, targets=TARGETS))
    logits = scores(model, *HISTORIES).double()[:, 1:]
    expected = -sum(
        logits[row, target - 1] - torch.log(logits[row].exp().sum())
        for row, target in enumerate(TARGETS)
    ) / len(TARGETS)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    found.backward()
    assert not model.score_head.bias.grad[0].any()  # the padding item is no class


def test_gradients_reach_every_trained_part_and_the_trunk_stays(factory):
    made = factory(learner="sgd", learning_rate=0.1, weight_decay=0.0, lr_schedule="constant")
    model, before = made.model, copy.deepcopy(dict(made.model.named_parameters()))
    trainer = HarnessTrainer(made.config, model)
    trainer._train_epoch([batch(*HISTORIES, targets=TARGETS)], 0)
    moved = {
        name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])
    }
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert moved == trained
    assert {name.split(".")[0] for name in moved} == {
        "prefix",
        "item_projection",
        "score_head",
        "llm",
    }
    adapters = [name for name in moved if name.startswith("llm.")]
    assert all("lora_" in name for name in adapters)
    for target in ("gate_proj", "up_proj", "down_proj"):
        assert sum(f".{target}.lora_" in name for name in adapters) == 2 * 2  # A and B, two layers


def step(made, batches, **overrides):
    """Return the trained weights after one SGD epoch over these batches."""
    model = made.build()
    for key, value in overrides.items():
        made.config[key] = value
    HarnessTrainer(made.config, model)._train_epoch(batches, 0)
    return model.state_dict()


def test_two_micro_batches_equal_one_batch(factory):
    sgd = {"learner": "sgd", "learning_rate": 0.5, "weight_decay": 0.0, "lr_schedule": "constant"}
    made = factory(**sgd, **NO_DROPOUT)
    histories, targets = HISTORIES[:4], TARGETS[:4]
    whole = [batch(*histories, targets=targets)]
    halves = [
        batch(*histories[:2], targets=targets[:2]),
        batch(*histories[2:], targets=targets[2:], width=2),
    ]
    once = step(made, whole, gradient_accumulation_steps=1)
    twice = step(made, halves, gradient_accumulation_steps=2)
    apart = step(made, halves, gradient_accumulation_steps=1)
    start = made.build().state_dict()
    for name, weight in once.items():
        torch.testing.assert_close(twice[name], weight, rtol=1e-4, atol=1e-6)
        assert not torch.equal(weight, start[name])
    assert any(not torch.allclose(apart[name], once[name], rtol=1e-4) for name in once)


def test_gradient_checkpointing_changes_no_number(factory):
    results = []
    for use in (False, True):
        model = factory(gradient_checkpointing=use, **NO_DROPOUT).model.train()
        loss = model.calculate_loss(batch(*HISTORIES, targets=TARGETS))
        loss.backward()
        trained = [(n, w.grad) for n, w in model.named_parameters() if w.requires_grad]
        results.append((loss, dict(trained)))
        assert not unreached(model)
    torch.testing.assert_close(*[loss for loss, _ in results])
    for name, grad in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], grad, rtol=1e-4, atol=1e-7)


# ---- switches


def test_switches_choose_the_stages(factory, world):
    def stages(**switches):
        return set(HeLLM.required_stages(world.config("HeLLM", **switches)))

    factory()
    assert stages() == {"graph", "sequence"}
    assert stages(use_seq_id=False) == {"graph"}
    assert stages(use_graph_id=False) == {"graph", "sequence"}
    assert stages(use_graph_prefix=False) == {"graph", "sequence"}
    assert stages(use_graph_id=False, use_graph_prefix=False) == {"sequence"}


def depends_on(made, name):
    """Whether the scores follow one stage's output."""
    other = torch.randn(made.outputs[name]["item_embedding"].shape)
    changed = made.build(**{name: {"item_embedding": other}})
    return not torch.allclose(scores(changed, *HISTORIES), scores(made.model, *HISTORIES))


@pytest.mark.parametrize(
    ("switches", "width", "has_prefix", "on_graph", "on_sequence"),
    [
        ({}, D_GRAPH + D_SEQUENCE, True, True, True),
        ({"use_graph_prefix": False}, D_GRAPH + D_SEQUENCE, False, True, True),
        ({"use_graph_id": False}, D_SEQUENCE, True, True, True),
        ({"use_seq_id": False}, D_GRAPH, True, True, False),
        ({"use_graph_id": False, "use_graph_prefix": False}, D_SEQUENCE, False, False, True),
        ({"use_seq_id": False, "use_graph_prefix": False}, D_GRAPH, False, True, False),
    ],
)
def test_switches_remove_their_part_only(
    factory, switches, width, has_prefix, on_graph, on_sequence
):
    made = factory(**switches)
    assert made.model.item_table.size(1) == made.model.item_projection[0].in_features == width
    assert any(name.startswith("prefix.") for name in made.model.state_dict()) == has_prefix
    assert depends_on(made, "graph") == on_graph
    assert depends_on(made, "sequence") == on_sequence


def test_without_any_id_there_is_no_item_to_read(factory):
    with pytest.raises(ValueError, match="use_graph_id and use_seq_id are both false"):
        factory(use_graph_id=False, use_seq_id=False)


def test_prefix_carries_the_graph_embeddings_of_the_users_own_items(factory):
    made = factory(use_graph_id=False)  # the graph comes in through the prefix alone
    other = made.outputs["graph"]["item_embedding"].clone()
    other[20:] += 1.0
    changed = made.build(graph={"item_embedding": other})
    before, after = scores(made.model, (3, 1), (3, 25)), scores(changed, (3, 1), (3, 25))
    torch.testing.assert_close(before[0], after[0])
    assert (before[1] - after[1]).abs().max() > 1e-4


# ---- what is saved


def test_state_holds_what_is_trained_and_nothing_else(factory):
    model = factory().model
    state = model.state_dict()
    assert set(state) == {n for n, w in model.named_parameters() if w.requires_grad}
    assert not [name for name in state if name.startswith("llm.") and "lora_" not in name]
    parts = {name.split(".")[0] for name in state}
    assert parts == {"llm", "prefix", "item_projection", "score_head"}


def test_save_and_load_give_the_same_scores(factory):
    made = factory()
    trainer = HarnessTrainer(made.config, made.model)
    trainer._train_epoch([batch(*HISTORIES, targets=TARGETS)], 0)
    trainer._save_checkpoint(0, verbose=False)
    fresh = made.build()
    expected = scores(made.model.eval(), *HISTORIES)
    assert not torch.allclose(scores(fresh, *HISTORIES), expected)
    state = load_checkpoint(Path(trainer.saved_model_file))
    fresh.load_state_dict(state["state_dict"])
    fresh.load_other_parameter(state["other_parameter"])
    assert torch.equal(scores(fresh, *HISTORIES), expected)


@pytest.mark.parametrize("sizes", [{}, {"hidden_size": 8}, {"num_hidden_layers": 1}])
def test_weights_of_another_backbone_are_refused(factory, other_llm, sizes):
    made = factory()
    trainer = HarnessTrainer(made.config, made.model)
    trainer._save_checkpoint(0, verbose=False)
    other = factory(llm_path=other_llm(**sizes))
    trainer = HarnessTrainer(other.config, other.model)
    with pytest.raises(ValueError, match="(was trained on|does not fit)"):
        trainer.load_best()


def test_weights_of_other_settings_are_refused(factory):
    state = factory().model.state_dict()
    with pytest.raises(ValueError, match="does not fit this HeLLM.*prefix"):
        factory(use_graph_prefix=False).model.load_state_dict(state)


def test_adapter_folder_is_one_that_peft_reads(factory, tiny_llm, tmp_path):
    model = factory().model
    model.export_adapter(tmp_path / "adapter")
    adapted = PeftModel.from_pretrained(load_backbone(tiny_llm).model, tmp_path / "adapter").eval()
    words = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(0))
    found = adapted(inputs_embeds=words).last_hidden_state
    expected = model.llm(inputs_embeds=words).last_hidden_state
    torch.testing.assert_close(found, expected)
    plain = load_backbone(tiny_llm).model(inputs_embeds=words).last_hidden_state
    assert not torch.allclose(found, plain, atol=1e-3)


def test_llm_num_layers_and_item_mlp_size(factory):
    model = factory(llm_num_layers=1, item_mlp_size=7).model
    assert model.item_projection[0].out_features == model.item_projection[2].in_features == 7
    assert len(model.prefix.key_bias) == 1
    assert torch.isfinite(scores(model, *HISTORIES)).all()


def window_batch():
    """Two windows: every item but the first is a target."""
    fields = batch((3, 1, 4, 15, 9), (5, 3)).interaction
    fields["target_id_list"] = torch.tensor([[1, 4, 15, 9, 2], [3, 7, 0, 0, 0]])
    return Interaction(fields)


@pytest.mark.parametrize("use_graph_prefix", [True, False])
def test_loss_of_windows_is_the_mean_over_histories_as_ranking_reads_them(
    factory, use_graph_prefix
):
    model = factory(training="windows", use_graph_prefix=use_graph_prefix).model
    found = model.calculate_loss(window_batch())
    rows = (3, 1, 4, 15, 9, 2), (5, 3, 7)
    samples = [(row[:end], row[end]) for row in rows for end in range(1, len(row))]
    logits = scores(model, *[items for items, _ in samples]).double()[:, 1:]
    expected = F.cross_entropy(logits, torch.tensor([target for _, target in samples]) - 1)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    found.backward()
    assert not unreached(model) - {"score_head.bias"}


def test_training_windows_and_prefixes_differ_by_the_graph_prefix_alone(factory):
    def gap(**switches):
        return (
            scores(factory(training="windows", **switches).model, *HISTORIES)
            - scores(factory(training="prefixes", **switches).model, *HISTORIES)
        ).abs()

    assert gap(use_graph_prefix=False).max() < 1e-4
    with_prefix = gap().amax(dim=1)
    assert with_prefix[0] > 1e-3  # the paper's first items see a prefix of later ones


def test_windows_with_checkpointed_layers_give_the_same_numbers(factory):
    results = []
    for use in (False, True):
        made = factory(training="windows", gradient_checkpointing=use, **NO_DROPOUT)
        loss = made.model.train().calculate_loss(window_batch())
        loss.backward()
        results.append({n: w.grad for n, w in made.model.named_parameters() if w.requires_grad})
    for name, grad in results[0].items():
        torch.testing.assert_close(results[1][name], grad, rtol=1e-4, atol=1e-7)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("training", ["windows", "prefixes"])
def test_loss_on_a_gpu_is_that_of_the_cpu(factory, training, dtype):
    samples = window_batch() if training == "windows" else batch(*HISTORIES, targets=TARGETS)
    expected = factory(training=training).model.calculate_loss(samples)
    model = factory(training=training, llm_dtype=dtype).model.cuda()
    loss = model.calculate_loss(samples.to("cuda"))
    loss.backward()
    assert loss.dtype == torch.float32 and not unreached(model) - {"score_head.bias"}
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4 if dtype == "float32" else 0.05)


@pytest.mark.parametrize("training", ["windows", "prefixes"])
def test_bfloat16_trunk(factory, training):
    model = factory(training=training, llm_dtype="bfloat16").model
    samples = window_batch() if training == "windows" else batch(*HISTORIES, targets=TARGETS)
    loss = model.calculate_loss(samples)
    assert loss.dtype == torch.float32
    loss.backward()
    trained = [w for w in model.parameters() if w.requires_grad]
    assert all(w.grad is not None and torch.isfinite(w.grad).all() for w in trained)
    assert F.softmax(scores(model, (3,))[0].float(), dim=0).sum().item() == pytest.approx(1)
