"""Reading prompts of words, users and items, with a decoder and with an encoder-decoder."""

from pathlib import Path

import pytest
import torch
from gradients import lone_queries, unreached
from transformers import LlamaConfig, LlamaModel

from recbole_llm.llm.backbone import load_backbone
from recbole_llm.llm.lora import add_lora
from recbole_llm.model.galrec.reader import NodeReader

N_USERS, N_ITEMS, WIDTH = 6, 9, 5
CACHE = Path(__file__).parents[3] / "saved" / "cache"


def tables(n_users=N_USERS, n_items=N_ITEMS, width=WIDTH):
    generator = torch.Generator().manual_seed(0)
    found = [torch.randn(n, width, generator=generator) for n in (n_users, n_items)]
    for table in found:
        table[0] = 0
    return found


@pytest.fixture(params=["decoder", "t5"])
def reader(request, tiny_t5):
    torch.manual_seed(0)
    if request.param == "t5":
        model, targets = load_backbone(tiny_t5, encoder_decoder=True).model, ["q", "wo"]
    else:
        sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
        model = LlamaModel(
            LlamaConfig(vocab_size=12, hidden_size=16, intermediate_size=24, **sizes)
        )
        model.requires_grad_(False)
        targets = ["gate_proj", "down_proj"]
    made = NodeReader(add_lora(model, r=2, target_modules=targets), *tables(), 7).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in made.parameters():
            if weight.requires_grad:  # LoRA starts as nothing at all
                weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return made


def padded(rows):
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def some_rows(reader):
    user, item = reader.n_words, reader.n_words + N_USERS
    return [[3, user + 2, 4, item + 1, item + 8], [user + 5], [2, item + 1, item + 1, 5], [4, 3]]


def test_each_token_gets_its_own_embedding(reader):
    ids, _ = padded(some_rows(reader))
    found = reader.embed(ids)
    for row, tokens in zip(found, ids.tolist(), strict=True):
        for state, token in zip(row, tokens, strict=True):
            node = token - reader.n_words
            if node < 0:
                expected = reader.words.weight[token]
            elif node < N_USERS:
                expected = reader.mapping(reader.user_table[node])
            else:
                expected = reader.mapping(reader.item_table[node - N_USERS])
            torch.testing.assert_close(state, expected)
    torch.testing.assert_close(reader.item_emb(), reader.mapping(reader.item_table))


def test_padding_nodes_are_no_tokens(reader):
    nodes = torch.tensor([0, 1, 5])
    assert (reader.user_tokens(nodes) - reader.n_words).tolist()[1:] == [1, 5]
    assert (reader.item_tokens(nodes) - reader.n_words - N_USERS).tolist()[1:] == [1, 5]
    assert reader.user_tokens(nodes)[0] == reader.item_tokens(nodes)[0] == -1


@torch.no_grad()
def test_a_padded_batch_reads_as_one_by_one(reader):
    rows = some_rows(reader)
    together, meaning = reader.read(*padded(rows)), reader(*padded(rows))
    torch.testing.assert_close(together.meaning, meaning)
    for place, row in enumerate(rows):
        alone = reader.read(*padded([row]))
        for found, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(found[place], expected[0], rtol=1e-4, atol=1e-5)
    assert together.answer.std(dim=0).min() > 1e-3


@torch.no_grad()
def test_meaning_and_answer_of_t5(tiny_t5):
    model = load_backbone(tiny_t5, encoder_decoder=True).model
    made = NodeReader(model, *tables(), None).eval()
    assert made.is_encoder_decoder
    ids, mask = padded(some_rows(made))
    found = made.read(ids, mask)
    output = model(
        inputs_embeds=made.embed(ids),
        attention_mask=mask,
        decoder_input_ids=torch.zeros(4, 1).long(),
    )
    for row in range(4):
        states = output.encoder_last_hidden_state[row][mask[row] > 0]
        torch.testing.assert_close(found.meaning[row], states.mean(dim=0))
    torch.testing.assert_close(found.answer, output.last_hidden_state[:, 0])


def test_gradients_reach_adapters_and_mapping_only(reader):
    found = reader.read(*padded(some_rows(reader)))
    # The last layer normalises: the squares of a state sum to the same, whatever the weights are.
    directions = torch.randn(2, 16, generator=torch.Generator().manual_seed(2))
    (found.meaning @ directions[0] + found.answer @ directions[1]).sum().backward()
    for name, weight in reader.named_parameters():
        assert weight.requires_grad == ("lora_" in name or name.startswith("mapping.")), name
        assert weight.requires_grad == (weight.grad is not None), name
    silent = lone_queries(reader)
    assert len(silent) == (2 * 2 if reader.is_encoder_decoder else 0)  # A and B of two layers
    assert unreached(reader) == silent


def test_gradient_checkpointing_of_t5_changes_no_number(tiny_t5):
    results = []
    for use in (False, True):
        model = load_backbone(tiny_t5, encoder_decoder=True, gradient_checkpointing=use).model
        torch.manual_seed(0)
        made = NodeReader(add_lora(model, r=2, target_modules=["q"]), *tables(), 7).train()
        calls: list[int] = []
        block = made.llm.get_base_model().encoder.block[0].layer[0]
        block.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        direction = torch.randn(16, generator=torch.Generator().manual_seed(2))
        loss = (made.read(*padded(some_rows(made))).answer @ direction).sum()
        loss.backward()
        assert len(calls) == 1 + use
        results.append([loss, *(p.grad for p in made.mapping.parameters())])
    for plain, checkpointed in zip(*results, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_new_tokens_start_as_large_as_words(tiny_t5):
    made = NodeReader(load_backbone(tiny_t5, encoder_decoder=True).model, *tables(), None)
    nodes = made.mapping(torch.cat([made.user_table[1:], made.item_table[1:]]))
    assert nodes.std().item() == pytest.approx(made.words.weight.std().item(), rel=1e-4)


@pytest.mark.llm
def test_41893_tokens_cost_their_external_tables_and_the_mapping():
    llm = load_backbone("smollm2-135m", num_layers=1, cache_dir=CACHE).model
    n_words = llm.get_input_embeddings().weight.shape[0]
    made = NodeReader(llm, *tables(1 + 25_598, 1 + 16_295, 64), None)  # 41,893 of them
    trained = sum(p.numel() for p in made.parameters() if p.requires_grad)
    assert trained == (64 + 1) * 576 + (576 + 1) * 576  # the mapping MLP, however many tokens
    assert trained < 0.02 * 41_893 * 576  # a table of LLM width would hold 24,130,368
    assert made.words.weight.shape[0] == n_words  # not resized
    buffers = {name: buffer.numel() for name, buffer in made.named_buffers() if "table" in name}
    assert sum(buffers.values()) == (41_893 + 2) * 64
    saved = [name for name in made.state_dict() if not name.startswith("llm.")]
    assert {name.split(".")[0] for name in saved} == {"mapping"}
