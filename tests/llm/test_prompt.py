from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from recbole_llm.llm.backbone import load_backbone
from recbole_llm.llm.prompt import build_inputs, tokenize_prompt
from recbole_llm.llm.prompt_files import load_prompt

CACHE = Path(__file__).parents[2] / "saved" / "cache"
WORDS = {"<s>": 0, "</s>": 1, "<unk>": 2, "bought": 3, "then": 4, "next": 5, ":": 6}


def tiny_tokenizer(special="<s> $A </s>"):
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=special, special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def build_by_hand(embed_tokens, head_ids, tail_ids, item_emb, lengths):
    head, tail = embed_tokens(head_ids), embed_tokens(tail_ids)
    rows = [
        torch.cat([head, row[:length], tail])
        for row, length in zip(item_emb, lengths.tolist(), strict=True)
    ]
    n_tokens = max(len(row) for row in rows)
    inputs = torch.stack([nn.functional.pad(r, (0, 0, n_tokens - len(r), 0)) for r in rows])
    mask = torch.tensor([[0] * (n_tokens - len(r)) + [1] * len(r) for r in rows])
    return inputs, mask


@given(
    n_head=st.integers(0, 4),
    n_tail=st.integers(1, 4),
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5),
    extra=st.integers(0, 3),
)
def test_inputs_equal_a_loop_over_rows(n_head, n_tail, lengths, extra):
    generator = torch.Generator().manual_seed(0)
    embed_tokens = nn.Embedding(7, 3)
    head_ids = torch.randint(7, (n_head,), generator=generator)
    tail_ids = torch.randint(7, (n_tail,), generator=generator)
    lengths = torch.tensor(lengths)
    item_emb = torch.randn(len(lengths), int(lengths.max()) + extra, 3, generator=generator)
    for row, length in enumerate(lengths):
        item_emb[row, length:] = torch.nan  # padding slots must not be read
    arguments = (embed_tokens, head_ids, tail_ids, item_emb, lengths)
    inputs, mask = build_inputs(*arguments)
    expected_inputs, expected_mask = build_by_hand(*arguments)
    assert torch.equal(mask, expected_mask)
    assert torch.equal(inputs, expected_inputs)


def test_gradients_reach_real_items_only():
    item_emb = torch.randn(2, 4, 3, requires_grad=True)
    ids, lengths = torch.tensor([1, 2]), torch.tensor([3, 1])
    inputs, _ = build_inputs(nn.Embedding(7, 3), ids, ids, item_emb, lengths)
    inputs.sum().backward()
    expected = (torch.arange(4) < lengths[:, None]).float()[..., None].expand(2, 4, 3)
    assert torch.equal(item_emb.grad, expected)


def test_inputs_take_the_dtype_of_the_token_embedding():
    embed_tokens = nn.Embedding(7, 3, dtype=torch.bfloat16)
    ids = torch.tensor([1])
    inputs, mask = build_inputs(embed_tokens, ids, ids, torch.randn(2, 2, 3), torch.tensor([2, 1]))
    assert inputs.dtype == torch.bfloat16
    assert mask.tolist() == [[1, 1, 1, 1], [0, 1, 1, 1]]


@pytest.mark.parametrize("lengths", [[3, 1], [-1, 1]])
def test_lengths_out_of_range(lengths):
    ids = torch.tensor([1])
    with pytest.raises(ValueError, match=r"lengths must lie in 0\.\.2"):
        build_inputs(nn.Embedding(7, 3), ids, ids, torch.randn(2, 2, 3), torch.tensor(lengths))


def test_an_empty_row_is_refused():
    none = torch.tensor([], dtype=torch.long)
    with pytest.raises(ValueError, match="no items and the prompt has no text"):
        build_inputs(nn.Embedding(7, 3), none, none, torch.randn(2, 2, 3), torch.tensor([2, 0]))


@pytest.mark.parametrize(
    ("special", "head"),
    [("<s> $A </s>", [0, 3, 6]), ("$A </s>", [3, 6]), (None, [3, 6])],
)
def test_head_gets_bos_only_if_the_tokenizer_adds_it_and_eos_never(special, head):
    head_ids, tail_ids = tokenize_prompt("bought: {items} next:", tiny_tokenizer(special))
    assert head_ids.tolist() == head
    assert tail_ids.tolist() == [5, 6]
    assert head_ids.dtype == tail_ids.dtype == torch.long


def test_head_without_text_is_bos_alone_and_bos_is_not_doubled():
    assert tokenize_prompt("{items} next", tiny_tokenizer())[0].tolist() == [0]
    assert tokenize_prompt("<s> bought {items}", tiny_tokenizer())[0].tolist() == [0, 3]
    head_ids, tail_ids = tokenize_prompt("{items}", tiny_tokenizer(None))
    assert head_ids.shape == tail_ids.shape == (0,) and head_ids.dtype == torch.long


@pytest.mark.parametrize("text", ["no items", "{items} and {items}"])
def test_placeholder_must_appear_once(text):
    with pytest.raises(ValueError, match="exactly once"):
        tokenize_prompt(text, tiny_tokenizer())


@pytest.mark.llm
def test_short_prompt_is_short_for_the_embedded_model():
    backbone = load_backbone("smollm2-135m", num_layers=1, cache_dir=CACHE)
    head_ids, tail_ids = tokenize_prompt(load_prompt("hellm_short"), backbone.tokenizer)
    assert len(head_ids) + len(tail_ids) <= 12
    assert backbone.tokenizer.decode(head_ids) == "Purchase history:"
    assert backbone.tokenizer.decode(tail_ids) == "\nNext purchase:"
