"""The graph prefix of each item of a window, against the prefix of a row cut behind that item."""

import pytest
import torch
from gradients import unreached
from torch import nn
from transformers import LlamaConfig, MistralConfig, Olmo2Config, Qwen2Config, Qwen3Config
from transformers.models.auto import AutoModel

from recbole_llm.llm.lora import add_lora
from recbole_llm.llm.windows import read_windows
from recbole_llm.model.hellm.causal_prefix import causal_states, running_pool
from recbole_llm.model.hellm.prefix import GraphPrefix, input_scales, prefix_cache

HIDDEN, N_ENTRIES, WIDTH = 32, 3, 6
SIZES = {
    "vocab_size": 20,
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
FAMILIES = {
    "llama": LlamaConfig(**SIZES),
    "llama-bias": LlamaConfig(**SIZES, attention_bias=True),
    "qwen2": Qwen2Config(**SIZES),  # with biases on its projections
    "qwen3": Qwen3Config(**SIZES, head_dim=8),  # with a norm of each head's keys
    "olmo2": Olmo2Config(**SIZES),  # with a norm of all heads' keys at once
    "mistral": MistralConfig(**SIZES, head_dim=8),
}


def trunk(family="llama", dtype=torch.float64, attention="sdpa"):
    torch.manual_seed(0)
    model = AutoModel.from_config(FAMILIES[family], attn_implementation=attention)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3)
    return model.to(dtype).requires_grad_(False).eval()


def graph_prefix(model, dtype=torch.float64):
    torch.manual_seed(1)
    prefix = GraphPrefix(2, HIDDEN, WIDTH, 4, N_ENTRIES, 8, 0.0, input_scales(model))
    with torch.no_grad():
        for weight in prefix.parameters():
            weight.add_(0.3 * torch.randn(weight.shape))
    return prefix.to(dtype)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


MASK = torch.tensor([[True] * 4, [True, True, False, False]])


def test_running_pool_is_the_pool_of_each_beginning():
    prefix, graph = graph_prefix(trunk()), draw(2, 4, WIDTH)
    graph[1, 2:] = torch.nan  # padding may hold anything
    found = running_pool(prefix, graph, MASK)
    assert found.shape == (2, 4, 16)
    for end in range(1, 5):
        expected = prefix.pooled(graph[:, :end], MASK[:, :end])
        torch.testing.assert_close(found[:, end - 1], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_states_of_each_item_are_those_of_the_paper_s_prefix_of_its_items(family):
    model, graph = trunk(family), draw(2, 4, WIDTH)
    prefix = graph_prefix(model)
    found = causal_states(model, prefix, graph, MASK)
    for end in range(1, 5):
        cache = prefix_cache(model, *prefix(graph[:, :end], MASK[:, :end]))
        own = slice((end - 1) * N_ENTRIES, end * N_ENTRIES)
        for layer, (keys, values) in zip(cache.layers, found, strict=True):
            assert keys.shape == (2, 2, 4 * N_ENTRIES, 8)
            # some norms of transformers compute in float32
            torch.testing.assert_close(keys[:, :, own], layer.keys, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(values[:, :, own], layer.values, rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_the_papers_prefix():
    model, graph = trunk(), draw(2, 4, WIDTH)
    grads = []
    for causal in (True, False):
        prefix = graph_prefix(model)
        if causal:
            own = [
                [s[:, :, -N_ENTRIES:] for s in layer]
                for layer in causal_states(model, prefix, graph, torch.ones(2, 4).bool())
            ]
        else:
            cache = prefix_cache(model, *prefix(graph, torch.ones(2, 4).bool()))
            own = [[layer.keys, layer.values] for layer in cache.layers]
        torch.stack(
            [(s * draw(*s.shape, seed=9)).sum() for layer in own for s in layer]
        ).sum().backward()
        assert not unreached(prefix)
        grads.append({name: weight.grad for name, weight in prefix.named_parameters()})
    for name, grad in grads[1].items():
        torch.testing.assert_close(grads[0][name], grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_an_answer_does_not_depend_on_later_items(attention):
    dtype = torch.float32
    model = trunk("llama", dtype, attention)
    prefix = graph_prefix(model, dtype)
    items, graph = draw(1, 4, HIDDEN, dtype=dtype), draw(1, 4, WIDTH, dtype=dtype)
    head, tail = draw(2, HIDDEN, seed=4, dtype=dtype), draw(2, HIDDEN, seed=5, dtype=dtype)

    def answers(n_items, graph):
        states = causal_states(model, prefix, graph[:, :n_items], torch.ones(1, n_items).bool())
        ends = torch.arange(1, n_items + 1).unsqueeze(0)
        return read_windows(model, head, items[:, :n_items], tail, ends, states)

    whole = answers(4, graph)
    for end in range(1, 4):
        torch.testing.assert_close(answers(end, graph), whole[:, :end], rtol=1e-4, atol=1e-5)
    other = graph.clone()
    other[:, 1] += 1.0
    moved = (answers(4, other) - whole).abs().amax(dim=2)[0] > 1e-3
    assert moved.tolist() == [False, True, True, True]


def test_adapters_on_the_projections_are_used():
    model, graph = trunk(), draw(1, 3, WIDTH)
    prefix = graph_prefix(model)
    adapted = add_lora(trunk(), r=2, dropout=0.0, target_modules=["k_proj", "v_proj"]).double()
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight)
    mask = torch.ones(1, 3).bool()
    found, plain = (causal_states(m, prefix, graph, mask) for m in (adapted, model))
    cache = prefix_cache(adapted, *prefix(graph, mask))
    torch.testing.assert_close(found[0][0][:, :, -N_ENTRIES:], cache.layers[0].keys)
    assert (found[0][0] - plain[0][0]).abs().max() > 1e-2


def test_float32_prefix_on_a_bfloat16_trunk():
    model, graph = trunk(dtype=torch.bfloat16), draw(1, 3, WIDTH, dtype=torch.float32)
    prefix = graph_prefix(trunk(dtype=torch.float32), torch.float32)
    states = causal_states(model, prefix, graph, torch.ones(1, 3).bool())
    assert {s.dtype for layer in states for s in layer} == {torch.bfloat16}
    torch.stack([s.float().square().sum() for layer in states for s in layer]).sum().backward()
    assert not unreached(prefix)
