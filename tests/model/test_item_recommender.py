"""Windows against prefixes on one model: the same loss, gradients and scores."""

import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.utils import init_seed
from torch import nn

from recbole_llm.data.loading import build_loaders, load_split
from recbole_llm.data.sequence_loader import PrefixLoader, WindowLoader
from recbole_llm.llm.item_recommender import ItemRecommender
from recbole_llm.llm.prompt_files import PLACEHOLDER

WIDTH = 6
PROMPTS = {
    "head and tail": f"Purchase history:{PLACEHOLDER} Next purchase:",
    "head": f"Purchase history:{PLACEHOLDER}",
    "tail": f"{PLACEHOLDER} Next purchase:",
}
HISTORIES = [(3, 1, 4, 15, 9, 2), (5, 3), (8, 7, 9)]


class Linear(ItemRecommender):
    """The smallest recommender on the base: one table, a linear projection."""

    def build_projection(self, config, width, hidden_size):
        return nn.Linear(width, hidden_size)


@pytest.fixture
def factory(world, clicks, tmp_path):
    world.write(clicks(parity=False))
    counter = iter(range(100))

    def make(training, prompt="head and tail", head="tied", **overrides):
        path = tmp_path / f"prompt{next(counter)}.txt"
        path.write_text(PROMPTS[prompt])
        config = world.config(
            "HeLLM",
            training=training,
            head=head,
            prompt=str(path),
            use_graph_prefix=False,
            lora_dropout=0.0,
            **overrides,
        )
        train = load_split(config).train
        init_seed(2020, True)
        table = torch.randn(train.item_num, WIDTH, generator=torch.Generator().manual_seed(0))
        model = Linear(config, train, table)
        with torch.no_grad():  # LoRA starts as nothing at all
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.add_(0.1 * torch.randn(weight.shape))
        return model.double()

    return make


def padded(rows, width):
    return torch.tensor([list(row) + [0] * (width - len(row)) for row in rows])


def windows():
    rows = [row[:-1] for row in HISTORIES]
    return Interaction(
        {
            "item_id_list": padded(rows, 5),
            "target_id_list": padded([row[1:] for row in HISTORIES], 5),
            "item_length": torch.tensor([len(row) for row in rows]),
        }
    )


def prefixes():
    samples = [(row[:end], row[end]) for row in HISTORIES for end in range(1, len(row))]
    return Interaction(
        {
            "item_id_list": padded([items for items, _ in samples], 5),
            "item_length": torch.tensor([len(items) for items, _ in samples]),
            "item_id": torch.tensor([target for _, target in samples]),
        }
    )


@pytest.mark.parametrize("head", ["tied", "full", "frozen"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_windows_have_the_loss_and_the_gradients_of_prefixes(factory, prompt, head):
    found = {}
    for training, batch in (("windows", windows()), ("prefixes", prefixes())):
        model = factory(training, prompt, head)
        loss = model.calculate_loss(batch)
        loss.backward()
        grads = {n: w.grad for n, w in model.named_parameters() if w.requires_grad}
        found[training] = loss, grads
    torch.testing.assert_close(found["windows"][0], found["prefixes"][0], rtol=1e-7, atol=0)
    for name, grad in found["prefixes"][1].items():
        assert grad.abs().max() > 0, name
        torch.testing.assert_close(found["windows"][1][name], grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("prompt", PROMPTS)
@torch.no_grad()
def test_ranking_reads_a_history_as_training_does(factory, prompt):
    scores = [
        factory(training, prompt).eval().full_sort_predict(prefixes()).view(8, -1)
        for training in ("windows", "prefixes")
    ]
    torch.testing.assert_close(*scores, rtol=1e-6, atol=1e-6)
    assert scores[0].std(dim=0).min() > 1e-2


@pytest.mark.parametrize(
    ("training", "kind"), [("windows", WindowLoader), ("prefixes", PrefixLoader)]
)
def test_training_chooses_the_loader(world, clicks, training, kind):
    world.write(clicks(parity=False))
    config = world.config("HeLLM", training=training)
    assert type(build_loaders(config, load_split(config)).train) is kind


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"prefixes_per_user": 3}, "prefixes_per_user has no effect with training=windows"),
        (
            {"training": "prefixes", "train_batch_tokens": 100},
            "train_batch_tokens has no effect with training=prefixes",
        ),
        ({"head_init": "random"}, "head_init has no effect with head=tied"),
    ],
)
def test_a_setting_without_effect_is_refused(world, clicks, line, message):
    world.write(clicks(parity=False))
    with pytest.raises(ValueError, match=message):
        world.config("HeLLM", **line)
