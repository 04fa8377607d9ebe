import copy

import numpy as np
import pytest
import torch
from gradients import unreached
from recbole.data.interaction import Interaction
from recbole.utils import init_seed
from transformers import AutoTokenizer

from recbole_llm.data.loading import load_split
from recbole_llm.llm.prompt import tokenize_prompt
from recbole_llm.llm.prompt_files import load_prompt
from recbole_llm.model.e4srec import E4SRec

WIDTH = 6
HISTORIES = [(3, 1, 4, 15, 9, 2), (5, 3), (8,), (9, 7, 9, 3, 2)]
TARGETS = [(1, 4, 15, 9, 2, 7), (3, 1), (40,), (7, 9, 3, 2, 12)]
HEADS = ["tied", "full", "frozen"]


@pytest.fixture
def make(world, clicks):
    """Make an E4SRec on a random item table, whose weights are not at their start."""
    world.write(clicks(parity=False))

    def build(**overrides):
        config = world.config("E4SRec", lora_dropout=0.0, **overrides)
        dataset = load_split(config).train
        generator = torch.Generator().manual_seed(0)
        table = 3 * torch.randn(dataset.item_num, WIDTH, generator=generator)
        init_seed(2020, True)
        model = E4SRec(config, dataset, {"external": {"item_embedding": table}}).eval()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
        return model, table

    return build


@pytest.fixture(scope="module")
def tokenizer(tiny_llm):
    return AutoTokenizer.from_pretrained(tiny_llm)


def reference(model, tokenizer, table, history, kind):
    """Scores (I,) by the trunk alone, one unpadded input; float64 around it."""
    trunk = copy.deepcopy(model.llm).eval().merge_and_unload()
    embed = trunk.get_input_embeddings()
    head, tail = tokenize_prompt(load_prompt("hellm_short"), tokenizer)
    scaled = table.double().numpy()
    scaled[0] = 0
    scaled = scaled / scaled[1:].std(ddof=1)
    weight, bias = (
        part.detach().double().numpy()
        for part in (model.item_projection.weight, model.item_projection.bias)
    )
    items = torch.from_numpy(scaled[list(history)] @ weight.T + bias).float()
    inputs = torch.cat([embed(head), items, embed(tail)]).unsqueeze(0)
    with torch.no_grad():
        state = trunk(inputs_embeds=inputs).last_hidden_state[0, -1].double().numpy()
    own = model.score_head.weight.detach().double().numpy()
    if kind == "tied":
        return scaled @ (own @ state) + model.score_head.bias.detach().double().numpy()
    return own @ state


def padded(rows):
    width = max(map(len, rows))
    return torch.tensor([list(row) + [0] * (width - len(row)) for row in rows])


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("training", ["windows", "prefixes"])
def test_scores_are_those_of_the_equations(make, tokenizer, training, kind):
    model, table = make(training=training, head=kind)
    lengths = torch.tensor([len(row) for row in HISTORIES])
    batch = Interaction({"item_id_list": padded(HISTORIES), "item_length": lengths})
    with torch.no_grad():
        found = model.full_sort_predict(batch).view(len(HISTORIES), -1)
    assert found.std(dim=0)[1:].min() > 1e-4  # users differ
    for row, history in zip(found, HISTORIES, strict=True):
        expected = reference(model, tokenizer, table, history, kind)
        np.testing.assert_allclose(row[1:], expected[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", HEADS)
def test_windows_and_prefixes_have_the_loss_and_gradients_of_the_equations(make, tokenizer, kind):
    losses = []
    pairs = [
        (history[: end + 1], target[end])
        for history, target in zip(HISTORIES, TARGETS, strict=True)
        for end in range(len(history))
    ]
    gradients = []
    for training in ("windows", "prefixes"):
        model, table = make(training=training, head=kind)
        if not losses:
            for prefix, target in pairs:
                scores = reference(model, tokenizer, table, prefix, kind)[1:]
                losses.append(np.log(np.exp(scores).sum()) - scores[target - 1])
        if training == "windows":
            rows, more = HISTORIES, {"target_id_list": padded(TARGETS)}
        else:
            rows = [prefix for prefix, _ in pairs]
            more = {"item_id": torch.tensor([target for _, target in pairs])}
        lengths = torch.tensor([len(row) for row in rows])
        fields = {"item_id_list": padded(rows), "item_length": lengths, **more}
        loss = model.train().calculate_loss(Interaction(fields))
        assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)
        loss.backward()
        assert not unreached(model)
        gradients.append({n: w.grad for n, w in model.named_parameters() if w.requires_grad})
    first, second = gradients
    assert first.keys() == second.keys()
    for name, gradient in first.items():
        torch.testing.assert_close(second[name], gradient, rtol=1e-3, atol=1e-6)
    trained = {name.split(".")[0] for name in first}
    assert trained == {"llm", "item_projection"} | ({"score_head"} if kind != "frozen" else set())


@pytest.mark.parametrize(
    ("kind", "stage", "settings"),
    [
        ("sasrec", "SASRecCausal", {"hidden_size": 16, "inner_size": 32}),
        ("lightgcn", "LightGCN", {"embedding_size": 12}),
    ],
)
def test_item_table_is_what_the_stage_exports(world, clicks, kind, stage, settings):
    world.write(clicks(parity=False))
    bench = world.bench("E4SRec", external_embedding=kind, external_stage={**settings, "epochs": 1})
    assert bench.config.stages["external"].model_class.__name__ == stage
    exported = bench.outputs["external"]["item_embedding"][1:]
    expected = exported / exported.std()
    torch.testing.assert_close(bench.model.item_table[1:], expected)
    assert not bench.model.item_table[0].any()
    assert not bench.model.item_table.requires_grad
