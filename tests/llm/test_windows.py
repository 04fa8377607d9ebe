"""Answers of a window against rows of their own, cut behind the items that each answer sees."""

import pytest
import torch
from torch import nn
from transformers import (
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto import AutoModel

from recbole_llm.llm.backbone import checkpoint_layers
from recbole_llm.llm.cache import read_only_cache, record_states
from recbole_llm.llm.lora import add_lora
from recbole_llm.llm.windows import read_windows

HIDDEN, N_KV, HEAD_DIM = 32, 2, 8
SIZES = {
    "vocab_size": 20,
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": N_KV,  # grouped-query attention
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
FAMILIES = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=HEAD_DIM),
    "mistral": MistralConfig(**SIZES, head_dim=HEAD_DIM, sliding_window=60),
    "gemma3": Gemma3TextConfig(**SIZES, head_dim=HEAD_DIM, query_pre_attn_scalar=HEAD_DIM),
    "olmo2": Olmo2Config(**SIZES),
}
LENGTHS = (5, 2, 1)


def tiny(family="llama", attention="sdpa", dtype=torch.float64):
    """A random trunk that attends far from uniformly."""
    torch.manual_seed(0)
    model = AutoModel.from_config(FAMILIES[family], attn_implementation=attention)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(8)
    return model.to(dtype).requires_grad_(False).eval()


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def alone(model, *parts):
    """The last state of one row that holds these tokens and no others."""
    return model(inputs_embeds=torch.cat(parts).unsqueeze(0)).last_hidden_state[0, -1]


SHAPES = [(3, 0), (0, 2), (3, 2), (0, 0)]  # words before and behind the items


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("n_head", "n_tail"), SHAPES)
def test_each_answer_is_that_of_a_row_of_its_own(family, attention, n_head, n_tail):
    # eager attention takes its softmax in float32
    dtype, atol = (torch.float64, 1e-8) if attention == "sdpa" else (torch.float32, 2e-5)
    model = tiny(family, attention, dtype)
    head, tail = (
        draw(n_head, HIDDEN, seed=1, dtype=dtype),
        draw(n_tail, HIDDEN, seed=2, dtype=dtype),
    )
    items = draw(len(LENGTHS), 5, HIDDEN, seed=3, dtype=dtype)
    for row, length in enumerate(LENGTHS):
        items[row, length:] = 50.0  # what stands behind the last item must not matter
    found = read_windows(model, head, items, tail, torch.arange(1, 6).unsqueeze(0))
    for row, length in enumerate(LENGTHS):
        for end in range(1, length + 1):
            expected = alone(model, head, items[row, :end], tail)
            torch.testing.assert_close(found[row, end - 1], expected, rtol=0, atol=atol)
    assert (found[0, 0] - found[0, 1]).abs().max() > 0.01


@pytest.mark.parametrize(("n_head", "n_tail"), SHAPES)
def test_one_answer_a_row_at_its_own_end(n_head, n_tail):
    model = tiny()
    head, tail, items = draw(n_head, HIDDEN), draw(n_tail, HIDDEN, seed=2), draw(3, 5, HIDDEN)
    found = read_windows(model, head, items, tail, torch.tensor(LENGTHS).unsqueeze(1))
    assert found.shape == (3, 1, HIDDEN)
    for row, length in enumerate(LENGTHS):
        expected = alone(model, head, items[row, :length], tail)
        torch.testing.assert_close(found[row, 0], expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("n_head", "n_tail"), SHAPES[:3])
def test_an_answer_after_no_items_reads_the_words(n_head, n_tail):
    model = tiny()
    head, tail, items = draw(n_head, HIDDEN), draw(n_tail, HIDDEN, seed=2), draw(2, 3, HIDDEN)
    found = read_windows(model, head, items, tail, torch.tensor([[0], [2]]))
    torch.testing.assert_close(found[0, 0], alone(model, head, tail), rtol=0, atol=1e-8)
    expected = alone(model, head, items[1, :2], tail)
    torch.testing.assert_close(found[1, 0], expected, rtol=0, atol=1e-8)


def test_without_words_an_answer_needs_an_item():
    with pytest.raises(ValueError, match="nothing to attend to"):
        no_words = draw(0, HIDDEN)
        read_windows(tiny(), no_words, draw(1, 2, HIDDEN), no_words, torch.tensor([[0]]))


def group_states(n_rows, n_items, n_entries):
    shape = (2, 2, n_rows, N_KV, n_items * n_entries, HEAD_DIM)
    return [tuple(layer) for layer in draw(*shape, seed=7)]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_without_a_tail_item_j_sees_its_own_group_by_hand(attention):
    """One layer at a time: the attention of each item over its own entries and earlier items."""
    dtype, atol = (torch.float64, 1e-8) if attention == "sdpa" else (torch.float32, 2e-5)
    model = tiny("llama", attention, dtype)
    items = draw(1, 3, HIDDEN, dtype=dtype)
    groups = [tuple(s.to(dtype) for s in layer) for layer in group_states(1, 3, 2)]
    none = draw(0, HIDDEN, dtype=dtype)
    found = read_windows(model, none, items, none, torch.tensor([[1, 2, 3]]), groups)
    hidden = items[0]
    rotary = model.rotary_emb(hidden, torch.arange(3).unsqueeze(0))
    for layer, (more_keys, more_values) in zip(model.layers, groups, strict=True):
        hidden = layer_by_hand(layer, hidden, rotary, more_keys[0], more_values[0])
    torch.testing.assert_close(found[0], model.norm(hidden), rtol=0, atol=atol)


def layer_by_hand(layer, hidden, rotary, more_keys, more_values):
    """One decoder layer of (T, h), each token with two entries of its own, head by head."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    query, key, value = (
        proj(normed).view(1, len(hidden), -1, HEAD_DIM).transpose(1, 2)
        for proj in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    query, key = apply_rotary_pos_emb(query, key, *rotary)
    rows = []
    for token in range(len(hidden)):
        own = slice(2 * token, 2 * token + 2)
        heads = []
        for head in range(query.size(1)):
            kv = head // (query.size(1) // N_KV)
            keys = torch.cat([more_keys[kv, own], key[0, kv, : token + 1]])
            values = torch.cat([more_values[kv, own], value[0, kv, : token + 1]])
            weight = (keys @ query[0, head, token] / HEAD_DIM**0.5).softmax(0)
            heads.append(weight @ values)
        rows.append(torch.cat(heads))
    hidden = hidden + attention.o_proj(torch.stack(rows))
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def test_a_branch_sees_the_group_of_its_last_item_and_no_other():
    model, items = tiny(), draw(2, 3, HIDDEN)
    head, tail = draw(2, HIDDEN, seed=4), draw(2, HIDDEN, seed=5)
    groups = group_states(2, 3, 2)
    ends = torch.tensor([[1, 2, 3]])
    before = read_windows(model, head, items, tail, ends, groups)
    for layer in groups:
        layer[1][1, :, 2:4] += 1.0  # the second item's entries, in the second row
    after = read_windows(model, head, items, tail, ends, groups)
    moved = (after - before).abs().amax(dim=2) > 1e-6
    # The third answer sees the second item, which saw its own entries.
    assert moved.tolist() == [[False, False, False], [False, True, True]]


def test_gradients_equal_those_of_rows_of_their_own():
    model = tiny()
    head, tail = draw(2, HIDDEN, seed=4), draw(2, HIDDEN, seed=5)
    parts = [head, draw(1, 4, HIDDEN), tail]
    weight = draw(4, HIDDEN, seed=6)
    together = [part.clone().requires_grad_() for part in parts]
    found = read_windows(model, *together, torch.arange(1, 5).unsqueeze(0))
    (found[0] * weight).sum().backward()
    apart = [part.clone().requires_grad_() for part in parts]
    for end in range(1, 5):
        (alone(model, apart[0], apart[1][0, :end], apart[2]) * weight[end - 1]).sum().backward()
    for left, right in zip(together, apart, strict=True):
        assert right.grad.abs().max() > 1e-3
        torch.testing.assert_close(
            left.grad, right.grad, rtol=1e-5, atol=1e-6
        )  # norms are in float32


def test_checkpointed_layers_give_the_same_numbers():
    results = []
    for checkpointed in (False, True):
        model = tiny()
        if checkpointed:
            checkpoint_layers(model)
        torch.manual_seed(0)
        model = add_lora(model, r=2, dropout=0.5).double().train()
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(weight)
        items = draw(2, 3, HIDDEN).requires_grad_()
        head, tail = draw(2, HIDDEN, seed=4), draw(2, HIDDEN, seed=5)
        torch.manual_seed(3)  # the adapters' dropout
        found = read_windows(model, head, items, tail, torch.tensor([[1, 2, 3]]))
        found.square().sum().backward()
        adapters = [weight.grad for weight in model.parameters() if weight.requires_grad]
        results.append([found.detach(), items.grad, *adapters])
    for plain, checkpointed in zip(*results, strict=True):
        assert torch.equal(plain, checkpointed)


def test_recorded_states_are_those_that_the_whole_row_has():
    model, tokens = tiny(), draw(6, HIDDEN)
    states, last = record_states(model, tokens[None, :4])
    torch.testing.assert_close(last[0], alone(model, tokens[:4]), rtol=0, atol=1e-8)
    output = model(
        inputs_embeds=tokens[None, 4:],
        position_ids=torch.tensor([[4, 5]]),
        past_key_values=read_only_cache(states),
        use_cache=True,
    )
    expected = alone(model, tokens)
    torch.testing.assert_close(output.last_hidden_state[0, -1], expected, rtol=0, atol=1e-8)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float64, 1e-7), (torch.float32, 1e-3), (torch.bfloat16, 0.3)]
)
@pytest.mark.parametrize(("n_head", "n_tail"), SHAPES)
def test_answers_on_a_gpu_are_those_of_the_cpu(dtype, atol, n_head, n_tail):
    head, tail, items = draw(n_head, HIDDEN), draw(n_tail, HIDDEN, seed=2), draw(3, 5, HIDDEN)
    ends, groups = torch.arange(1, 6).unsqueeze(0), group_states(3, 5, 2)
    expected = read_windows(tiny(), head, items, tail, ends, groups)
    head, tail, items = (part.to("cuda", dtype) for part in (head, tail, items))
    groups = [tuple(s.to("cuda", dtype) for s in layer) for layer in groups]
    found = read_windows(tiny(dtype=dtype).cuda(), head, items, tail, ends.cuda(), groups)
    assert found.dtype == dtype
    torch.testing.assert_close(found.cpu().double(), expected, rtol=0, atol=atol)
