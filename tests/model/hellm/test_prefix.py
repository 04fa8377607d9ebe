import math

import numpy as np
import pytest
import torch
from gradients import ROUNDING, unreached
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import (
    DynamicCache,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto import AutoModel

from recbole_llm.llm.backbone import checkpoint_layers
from recbole_llm.llm.decoder import decoder_layers, last_hidden
from recbole_llm.llm.lora import add_lora
from recbole_llm.model.hellm.prefix import GraphPrefix, input_scales, prefix_cache

HIDDEN, N_LAYERS, N_HEADS, N_KV, HEAD_DIM, N_PREFIX = 32, 2, 4, 2, 8, 3
SIZES = {
    "vocab_size": 20,
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "num_key_value_heads": N_KV,
    "head_dim": HEAD_DIM,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
FAMILIES = {
    "llama": lambda: LlamaConfig(**SIZES),
    "llama-bias": lambda: LlamaConfig(**SIZES, attention_bias=True),
    "mistral": lambda: MistralConfig(**SIZES, sliding_window=32),
    "qwen2": lambda: Qwen2Config(**{k: v for k, v in SIZES.items() if k != "head_dim"}),
    "qwen3": lambda: Qwen3Config(**SIZES),
    "gemma3": lambda: Gemma3TextConfig(**SIZES, sliding_window=32),
    "olmo2": lambda: Olmo2Config(**{k: v for k, v in SIZES.items() if k != "head_dim"}),
}


def tiny(family="llama", dtype=torch.float64, attention="sdpa"):
    """A random trunk whose norms and biases differ from their trivial initial values."""
    torch.manual_seed(0)
    config = FAMILIES[family]()
    config._attn_implementation = attention
    model = AutoModel.from_config(config).to(dtype).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.3 * torch.randn_like(parameter))
        else:
            parameter.mul_(10)  # the default std of 0.02 would leave attention nearly uniform
    return model


def batch(dtype=torch.float64, lengths=(7, 4, 1)):
    """Left-padded random inputs; the padding holds large numbers, which must not matter."""
    generator = torch.Generator().manual_seed(1)
    n_tokens = max(lengths)
    inputs = torch.randn(len(lengths), n_tokens, HIDDEN, generator=generator, dtype=dtype)
    mask = torch.zeros(len(lengths), n_tokens, dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, n_tokens - length :] = 1
        inputs[row, : n_tokens - length] = 50.0
    return inputs, mask


def prefix_in(n_rows=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(2)
    shape = (2, N_LAYERS, n_rows, N_PREFIX, HIDDEN)
    keys_in, values_in = torch.randn(shape, generator=generator, dtype=dtype)
    return keys_in.requires_grad_(), values_in.requires_grad_()


# ---- the pooling and the prefix hidden states


def test_pooled_by_hand():
    prefix = GraphPrefix(n_layers=1, hidden_size=4, graph_dim=2, pool_dim=1)
    prefix.pool.data = torch.tensor([[1.0], [2.0]])
    graph_emb = torch.tensor([[[1.0, 1.0], [3.0, -1.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, True, False]])
    # H W = (3, 1), so W^T H^T H W = 9 + 1
    assert prefix.pooled(graph_emb, mask).tolist() == [[10.0]]


def test_pooled_equals_numpy_and_identity_gives_the_plain_second_moment():
    prefix = GraphPrefix(n_layers=1, hidden_size=4, graph_dim=5, pool_dim=3).double()
    rng = np.random.default_rng(0)
    graph_emb, n_items = rng.normal(size=(2, 4, 5)), (4, 2)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    pooled = prefix.pooled(torch.from_numpy(graph_emb), mask)
    weight = prefix.pool.detach().numpy()
    for row, count in enumerate(n_items):
        items = graph_emb[row, :count]
        expected = weight.T @ items.T @ items @ weight
        np.testing.assert_allclose(pooled[row].detach(), expected.ravel(), rtol=1e-12)

    full = GraphPrefix(n_layers=1, hidden_size=4, graph_dim=5, pool_dim=5).double()
    full.pool.data = torch.eye(5).double()
    expected = np.einsum("bsi,bsj->bij", graph_emb[:1], graph_emb[:1])
    pooled = full.pooled(torch.from_numpy(graph_emb[:1]), mask[:1])
    np.testing.assert_allclose(pooled.detach(), expected.reshape(1, -1), rtol=1e-12)


def test_prefix_ignores_padding_and_order_and_shows_every_layer_its_own():
    torch.manual_seed(0)
    prefix = GraphPrefix(3, 16, graph_dim=6, pool_dim=4, n_prefix=5, mlp_hidden=8).eval()
    graph_emb = torch.randn(2, 4, 6)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    keys_in, values_in = prefix(graph_emb, mask)
    assert keys_in.shape == values_in.shape == (3, 2, 5, 16)

    padded = torch.cat([graph_emb, torch.full((2, 3, 6), torch.nan)], dim=1)
    padded[~torch.cat([mask, torch.zeros(2, 3, dtype=torch.bool)], dim=1)] = torch.nan
    order = torch.tensor([6, 2, 5, 0, 4, 1, 3])
    again = prefix(padded[:, order], torch.cat([mask, mask.new_zeros(2, 3)], dim=1)[:, order])
    torch.testing.assert_close(again[0], keys_in)
    torch.testing.assert_close(again[1], values_in)

    assert not torch.allclose(keys_in, values_in, atol=1e-3)
    assert not torch.allclose(keys_in[0], keys_in[1], atol=1e-3)  # layers
    assert not torch.allclose(keys_in[:, 0], keys_in[:, 1], atol=1e-3)  # users
    assert not torch.allclose(keys_in[:, :, 0], keys_in[:, :, 1], atol=1e-3)  # positions


def test_prefix_by_hand_follows_eq_10():
    torch.manual_seed(0)
    prefix = GraphPrefix(2, 6, graph_dim=3, pool_dim=2, n_prefix=2, mlp_hidden=5).double().eval()
    graph_emb = torch.randn(1, 4, 3, dtype=torch.float64) * 1e-4  # far below a usual epsilon
    mask = torch.ones(1, 4, dtype=torch.bool)
    items = (graph_emb[0] @ prefix.pool).detach().numpy()
    flat = (items.T @ items).ravel()
    flat = flat / np.sqrt((flat**2).mean() + 1e-12)
    for kind, got in zip(("key", "value"), prefix(graph_emb, mask), strict=True):
        mlp, bias = getattr(prefix, f"{kind}_mlp"), getattr(prefix, f"{kind}_bias").detach().numpy()
        first, second = (mlp[i].weight.detach().numpy() for i in (0, 3))
        inner = first @ flat + mlp[0].bias.detach().numpy()
        inner = np.array([x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in inner])  # GELU
        total = bias + second @ inner + mlp[3].bias.detach().numpy()  # (L, P, h)
        expected = total / np.sqrt((total**2).mean(-1, keepdims=True) + 1e-6)
        np.testing.assert_allclose(got[:, 0].detach(), expected, rtol=1e-10)


def test_user_without_items_gets_a_finite_prefix_and_gradient():
    prefix = GraphPrefix(1, 8, graph_dim=4, pool_dim=2, mlp_hidden=4)
    keys_in, values_in = prefix(torch.randn(1, 3, 4), torch.zeros(1, 3, dtype=torch.bool))
    (keys_in.square().sum() + values_in.sum()).backward()
    assert torch.isfinite(keys_in).all()
    assert all(torch.isfinite(p.grad).all() for p in prefix.parameters())


@pytest.mark.parametrize("pool_dim", [0, 5])
def test_pool_dim_out_of_range(pool_dim):
    with pytest.raises(ValueError, match=r"pool_dim must be in 1\.\.4"):
        GraphPrefix(1, 8, graph_dim=4, pool_dim=pool_dim)


def test_n_prefix_out_of_range():
    with pytest.raises(ValueError, match="n_prefix"):
        GraphPrefix(1, 8, graph_dim=4, pool_dim=2, n_prefix=0)


# ---- the decoder with a prefix, computed by hand


def rms_norm(hidden, norm):
    # transformers normalises in float32 whatever the dtype, so the reference does too
    wide = hidden.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)
    return norm.weight * wide.to(hidden.dtype)


def rotate(states, positions, theta):
    """Rotate (T, heads, head width) by each token's position, pair (i, i + width / 2) at a time."""
    half = HEAD_DIM // 2
    speed = 1.0 / theta ** (torch.arange(half).float() * 2 / HEAD_DIM)
    angle = (positions.float()[:, None] * speed)[:, None]  # (T, 1, half)
    cos, sin = angle.cos().to(states.dtype), angle.sin().to(states.dtype)
    left, right = states[..., :half], states[..., half:]
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


def decoder_by_hand(model, tokens, keys_in, values_in):
    """The last hidden state of one unpadded row (T, h) with prefix (L, P, h), head by head."""
    positions = torch.arange(len(tokens))
    theta = model.config.rope_parameters["rope_theta"]
    hidden = tokens
    for index, layer in enumerate(model.layers):
        attention = layer.self_attn
        normed = rms_norm(hidden, layer.input_layernorm)
        query = attention.q_proj(normed).view(len(tokens), N_HEADS, HEAD_DIM)
        key = attention.k_proj(normed).view(len(tokens), N_KV, HEAD_DIM)
        value = attention.v_proj(normed).view(len(tokens), N_KV, HEAD_DIM)
        prefix_key = attention.k_proj(keys_in[index]).view(-1, N_KV, HEAD_DIM)
        prefix_value = attention.v_proj(values_in[index]).view(-1, N_KV, HEAD_DIM)
        if hasattr(attention, "k_norm"):
            query = rms_norm(query, attention.q_norm)
            key = rms_norm(key, attention.k_norm)
            prefix_key = rms_norm(prefix_key, attention.k_norm)
        query, key = rotate(query, positions, theta), rotate(key, positions, theta)
        heads = []
        for head in range(N_HEADS):
            shared = head // (N_HEADS // N_KV)
            keys = torch.cat([prefix_key[:, shared], key[:, shared]])  # (P + T, width)
            values = torch.cat([prefix_value[:, shared], value[:, shared]])
            score = query[:, head] @ keys.T / math.sqrt(HEAD_DIM)
            future = torch.ones(len(tokens), len(tokens), dtype=torch.bool).triu(1)
            blocked = torch.cat([future.new_zeros(len(tokens), len(prefix_key)), future], dim=1)
            heads.append(score.masked_fill(blocked, -torch.inf).softmax(-1) @ values)
        hidden = hidden + attention.o_proj(torch.cat(heads, dim=-1))
        normed = rms_norm(hidden, layer.post_attention_layernorm)
        inner = nn.functional.silu(layer.mlp.gate_proj(normed)) * layer.mlp.up_proj(normed)
        hidden = hidden + layer.mlp.down_proj(inner)
    return rms_norm(hidden, model.norm)[-1]


@pytest.mark.parametrize("family", ["llama", "llama-bias", "mistral", "qwen2", "qwen3"])
def test_prefix_equals_a_decoder_by_hand_in_values_and_gradients(family):
    model = tiny(family)
    inputs, mask = batch()
    keys_in, values_in = prefix_in()
    got = last_hidden(model, inputs, mask, prefix_cache(model, keys_in, values_in))
    expected = torch.stack(
        [
            decoder_by_hand(model, inputs[row][mask[row] == 1], keys_in[:, row], values_in[:, row])
            for row in range(len(inputs))
        ]
    )
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-8)

    weight = torch.randn_like(expected)
    grads = torch.autograd.grad((got * weight).sum(), (keys_in, values_in))
    by_hand = torch.autograd.grad((expected * weight).sum(), (keys_in, values_in))
    for grad, reference in zip(grads, by_hand, strict=True):
        assert reference.abs().amax(dim=(1, 2, 3)).min() > 1e-3  # every layer's prefix matters
        torch.testing.assert_close(grad, reference, rtol=1e-5, atol=1e-6)


# ---- padding, batches, caches


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("with_prefix", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_padded_batch_equals_one_row_at_a_time(family, with_prefix, attention):
    for dtype, atol in ((torch.float64, 1e-8), (torch.float32, 1e-5)):
        if dtype == torch.float64 and attention == "eager":
            continue  # eager attention takes its softmax in float32
        model = tiny(family, dtype, attention)
        inputs, mask = batch(dtype)
        keys_in, values_in = prefix_in(dtype=dtype)
        cache = prefix_cache(model, keys_in, values_in) if with_prefix else None
        together = last_hidden(model, inputs, mask, cache)
        for row, length in enumerate((7, 4, 1)):
            alone = inputs[row : row + 1, -length:]
            rows = slice(row, row + 1)
            if with_prefix:
                cache = prefix_cache(model, keys_in[:, rows], values_in[:, rows])
            single = last_hidden(model, alone, mask.new_ones(1, length), cache)
            torch.testing.assert_close(together[rows], single, rtol=atol, atol=atol)


@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), extra=st.integers(0, 3))
def test_more_padding_changes_nothing(lengths, extra):
    model = tiny()
    inputs, mask = batch(lengths=lengths)
    cache = prefix_cache(model, *prefix_in(len(lengths)))
    wider = torch.cat([torch.full((len(lengths), extra, HIDDEN), -50.0).double(), inputs], dim=1)
    wider_mask = torch.cat([mask.new_zeros(len(lengths), extra), mask], dim=1)
    torch.testing.assert_close(
        last_hidden(model, wider, wider_mask, cache),
        last_hidden(model, inputs, mask, cache),
        rtol=0,
        atol=1e-8,
    )


def test_without_prefix_it_is_the_plain_model():
    model = tiny()
    inputs, mask = batch(lengths=(5, 5))
    expected = model(inputs_embeds=inputs).last_hidden_state[:, -1]
    torch.testing.assert_close(last_hidden(model, inputs, mask), expected, rtol=0, atol=1e-8)


def test_prefix_matters_and_rows_do_not_mix():
    model = tiny()
    inputs, mask = batch()
    keys_in, values_in = (x.detach() for x in prefix_in())
    before = last_hidden(model, inputs, mask, prefix_cache(model, keys_in, values_in))
    assert not torch.allclose(before, last_hidden(model, inputs, mask), atol=1e-2)
    values_in[:, 1] += 1.0
    after = last_hidden(model, inputs, mask, prefix_cache(model, keys_in, values_in))
    assert not torch.allclose(before[1], after[1], atol=1e-3)
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]], rtol=0, atol=1e-8)


def test_cache_is_read_only_and_can_be_used_again():
    model = tiny()
    inputs, mask = batch()
    cache = prefix_cache(model, *prefix_in())
    assert isinstance(cache, DynamicCache)
    first = last_hidden(model, inputs, mask, cache)
    shapes = [tuple(layer.keys.shape) for layer in cache.layers]
    assert shapes == [(3, N_KV, N_PREFIX, HEAD_DIM)] * N_LAYERS
    last_hidden(model, inputs[:, 3:] * 2, mask[:, 3:], cache)
    assert torch.equal(last_hidden(model, inputs, mask, cache), first)


def test_gradients_reach_every_prefix_parameter_and_no_frozen_weight():
    torch.manual_seed(0)
    model = tiny(dtype=torch.float32).train()
    prefix = GraphPrefix(N_LAYERS, HIDDEN, graph_dim=6, pool_dim=4, mlp_hidden=8)
    inputs, mask = batch(torch.float32)
    keys_in, values_in = prefix(torch.randn(3, 5, 6), torch.ones(3, 5, dtype=torch.bool))
    last_hidden(model, inputs, mask, prefix_cache(model, keys_in, values_in)).sum().backward()
    assert not unreached(prefix)
    by_layer = prefix.key_bias.grad.abs().amax(dim=(1, 2))
    assert by_layer.min() > ROUNDING * by_layer.max()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_float32_prefix_on_a_bfloat16_trunk():
    model = tiny(dtype=torch.bfloat16)
    keys_in, values_in = prefix_in(dtype=torch.float32)
    inputs, mask = batch(torch.bfloat16)
    hidden = last_hidden(model, inputs, mask, prefix_cache(model, keys_in, values_in))
    hidden.float().sum().backward()
    assert hidden.dtype == torch.bfloat16
    assert keys_in.grad.dtype == torch.float32 and torch.isfinite(keys_in.grad).all()


def test_lora_leaves_the_prefix_projections_alone():
    inputs, mask = batch()
    keys_in, values_in = prefix_in()
    plain = tiny()
    expected = last_hidden(plain, inputs, mask, prefix_cache(plain, keys_in, values_in))
    model = add_lora(tiny(), r=2).double().eval()
    assert decoder_layers(model) is decoder_layers(model.get_base_model())
    got = last_hidden(model, inputs, mask, prefix_cache(model, keys_in, values_in))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-8)


def test_layers_are_found_through_wrappers():
    model = tiny()
    assert decoder_layers(nn.DataParallel(model)) is model.layers


# ---- gradient checkpointing


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_checkpointed_layers_give_the_same_numbers_and_run_twice(family):
    results = []
    for checkpointed in (False, True):
        model = tiny(family)
        calls = []
        model.layers[0].mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        if checkpointed:
            checkpoint_layers(model)
        torch.manual_seed(0)
        model = add_lora(model, r=2, dropout=0.5).double().train()
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter)
        keys_in, values_in = prefix_in()
        inputs, mask = batch()
        inputs.requires_grad_()
        torch.manual_seed(3)  # the adapters' dropout
        hidden = last_hidden(model, inputs, mask, prefix_cache(model, keys_in, values_in))
        hidden.square().sum().backward()
        adapters = [p.grad for p in model.parameters() if p.requires_grad]
        results.append([hidden.detach(), keys_in.grad, values_in.grad, inputs.grad, *adapters])
        assert len(calls) == (2 if checkpointed else 1)
        with torch.no_grad():
            last_hidden(model, inputs, mask, prefix_cache(model, keys_in, values_in))
        assert len(calls) == (3 if checkpointed else 2)  # nothing to recompute without gradients
    for plain, checkpointed in zip(*results, strict=True):
        assert torch.equal(plain, checkpointed)


def test_checkpointing_of_transformers_is_refused_with_a_prefix():
    model = tiny().train()
    model.gradient_checkpointing_enable()
    inputs, mask = batch()
    with pytest.raises(ValueError, match="drops the prefix"):
        last_hidden(model, inputs, mask, prefix_cache(model, *prefix_in()))
    last_hidden(model.eval(), inputs, mask, prefix_cache(model, *prefix_in()))


# ---- bad input


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(vocab_size=20, n_embd=HIDDEN, n_layer=N_LAYERS, n_head=N_HEADS),
        Phi3Config(**{k: v for k, v in SIZES.items() if k != "head_dim"}),
    ],
)
def test_fused_projections_are_refused(config):
    with pytest.raises(ValueError, match="Supported: Llama, Mistral"):
        prefix_cache(AutoModel.from_config(config), *prefix_in(dtype=torch.float32))


def test_key_norm_of_an_unknown_form_is_refused():
    model = tiny()
    model.layers[0].self_attn.k_norm = nn.Identity()
    with pytest.raises(ValueError, match="normalises its k states"):
        prefix_cache(model, *prefix_in())


def test_prefix_for_another_depth_or_batch_or_side_is_refused():
    model = tiny()
    inputs, mask = batch()
    keys_in, values_in = prefix_in()
    with pytest.raises(ValueError, match="2 decoder layers, but the prefix was made for 1"):
        prefix_cache(model, keys_in[:1], values_in[:1])
    with pytest.raises(ValueError, match="for 2 rows, the inputs have 3"):
        last_hidden(model, inputs, mask, prefix_cache(model, keys_in[:, :2], values_in[:, :2]))
    with pytest.raises(ValueError, match="left-padded"):
        last_hidden(model, inputs.flip(1), mask.flip(1), prefix_cache(model, keys_in, values_in))


def test_input_beyond_the_sliding_window_is_refused():
    model = tiny("mistral")
    inputs, mask = batch(lengths=(30,))
    with pytest.raises(ValueError, match="33 positions.*last 32"):
        last_hidden(model, inputs, mask, prefix_cache(model, *prefix_in(1)))
    assert last_hidden(model, inputs, mask).isfinite().all()


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_input_scales_are_what_each_layer_does_to_states_of_unit_size(family):
    model = tiny(family)
    states = torch.randn(HIDDEN, dtype=torch.float64)
    states = states / states.square().mean().sqrt()
    scales = input_scales(model)
    for layer, scale in zip(decoder_layers(model), scales, strict=True):
        torch.testing.assert_close(
            layer.input_layernorm(states), states * scale.double(), rtol=1e-5, atol=1e-5
        )


def test_input_scales_of_a_trunk_without_input_norms_are_one():
    assert torch.equal(input_scales(tiny("olmo2")), torch.ones(N_LAYERS, HIDDEN))


def test_a_prefix_starts_as_large_as_its_layer_s_inputs():
    scales = torch.tensor([[0.04], [0.2]]).expand(N_LAYERS, HIDDEN)
    prefix = GraphPrefix(N_LAYERS, HIDDEN, 6, 4, N_PREFIX, dropout=0.0, input_scale=scales)
    for states in prefix(torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool)):
        size = states.square().mean(-1).sqrt()  # (L, B, P)
        torch.testing.assert_close(size, scales[:, :1, None].expand_as(size), rtol=1e-3, atol=0)
