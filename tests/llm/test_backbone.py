import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import (
    AutoModel,
    BertConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    T5Config,
)

from recbole_llm.llm import backbone
from recbole_llm.llm.backbone import backbone_shape, load_backbone
from recbole_llm.llm.decoder import last_hidden
from recbole_llm.llm.lora import add_lora
from recbole_llm.llm.model_files import lacks_head
from recbole_llm.model.hellm.prefix import prefix_cache

CACHE = Path(__file__).parents[2] / "saved" / "cache"  # the real model is converted there once
SIZES = {
    "vocab_size": 12,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def save_folder(folder, model):
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    return save_folder(tmp_path / "tiny", LlamaForCausalLM(LlamaConfig(**SIZES)))


def hidden(model, cache=None):
    inputs = torch.randn(2, 5, model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    return last_hidden(model, inputs, torch.ones(2, 5, dtype=torch.long), cache)


# ---- folders


def test_folder_gives_the_frozen_trunk_without_its_head(folder):
    model, tokenizer, source, shape, head = load_backbone(str(folder))
    assert head is None
    assert type(model) is LlamaModel and not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert model.dtype == torch.float32
    whole = LlamaForCausalLM.from_pretrained(folder).model
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), whole.parameters(), strict=True)
    )
    assert tokenizer("a").input_ids == [1]
    assert shape == (32, 3, 2, 8)
    assert (
        source
        == json.loads(json.dumps(source))
        == {
            "path": str(folder),
            "kind": "folder",
            "revision": None,
            "num_layers": 3,
            "dtype": "float32",
            "load_in_4bit": False,
            "hash": source["hash"],
        }
    )


def test_folder_hash_follows_the_files(folder):
    first, again = (load_backbone(folder).source["hash"] for _ in range(2))
    assert first == again
    torch.manual_seed(1)
    LlamaForCausalLM(LlamaConfig(**SIZES)).save_pretrained(folder)
    assert load_backbone(folder).source["hash"] != first


@pytest.mark.parametrize("config", [LlamaConfig(**SIZES), Qwen3Config(**SIZES, head_dim=8)])
def test_num_layers_keeps_the_first(tmp_path, config):
    torch.manual_seed(0)
    whole = AutoModel.from_config(config).eval()
    save_folder(tmp_path, whole)
    model, _, source, shape, _ = load_backbone(tmp_path, num_layers=2)
    assert len(model.layers) == model.config.num_hidden_layers == 2
    assert source["num_layers"] == shape.n_layers == 2
    assert len(getattr(model.config, "layer_types", None) or [0, 0]) == 2
    whole.layers = whole.layers[:2]
    whole.config.num_hidden_layers = 2
    torch.testing.assert_close(hidden(model), hidden(whole), rtol=0, atol=0)
    assert isinstance(whole, LlamaModel | Qwen3Model)


@pytest.mark.parametrize("num_layers", [0, 4, -1, True])
def test_num_layers_out_of_range(folder, num_layers):
    with pytest.raises(ValueError, match=rf"1\.\.3.*got num_layers={num_layers}"):
        load_backbone(folder, num_layers=num_layers)


def test_dtypes(folder, tmp_path):
    assert load_backbone(folder, dtype="bfloat16").model.dtype == torch.bfloat16
    half = save_folder(tmp_path / "half", LlamaModel(LlamaConfig(**SIZES)).half())
    for dtype, expected in (("auto", "float16"), ("float32", "float32")):
        loaded = load_backbone(half, dtype=dtype)
        assert loaded.source["dtype"] == expected
        assert loaded.model.dtype == getattr(torch, expected)


@pytest.mark.parametrize(("dtype", "near"), [("fp16", "float16"), ("float31", "float32")])
def test_unknown_dtype_names_the_nearest(dtype, near):
    with pytest.raises(ValueError, match=f"got '{dtype}'. Did you mean '{near}'"):
        load_backbone("anything", dtype=dtype)


@pytest.mark.parametrize("config", [T5Config(), BertConfig()])
def test_encoders_are_refused(tmp_path, config):
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="only decoders are supported"):
        load_backbone(tmp_path)


def test_t5_is_taken_where_asked_for(tiny_t5):
    model, _, source, shape, _ = load_backbone(tiny_t5, encoder_decoder=True, num_layers=1)
    assert (shape.hidden_size, shape.n_layers, source["num_layers"]) == (16, 1, 1)
    assert len(model.encoder.block) == len(model.decoder.block) == 1
    assert not any(p.requires_grad for p in model.parameters())
    with pytest.raises(ValueError, match="only decoders are supported"):
        load_backbone(tiny_t5)


def test_other_encoders_are_refused_with_the_names_of_those_that_will_do(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"a 'bert' model.*encoder-decoders \(t5, mt5, umt5\)"):
        load_backbone(tmp_path, encoder_decoder=True)


def test_config_without_the_widths_is_refused():
    config = PreTrainedConfig(num_hidden_layers=2, hidden_size=8)
    with pytest.raises(ValueError, match="does not give num_key_value_heads, head_dim"):
        backbone_shape(config)


def test_damaged_or_incomplete_weights_are_named(folder):
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match=f"llm_path='{folder}' cannot be loaded"):
        load_backbone(folder)
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(fields | {"num_hidden_layers": 4}))
    weights.write_bytes(content)
    with pytest.raises(OSError, match="weights are missing, among them layers.3"):
        load_backbone(folder)


def test_bad_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such GGUF file"):
        load_backbone(tmp_path / "none.gguf")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_backbone(tmp_path / "none")
    (tmp_path / "file.bin").write_text("x")
    with pytest.raises(ValueError, match="not a .gguf file"):
        load_backbone(tmp_path / "file.bin")
    with pytest.raises(ValueError, match="revision='main' needs a Hugging Face id"):
        load_backbone(tmp_path, revision="main")


# ---- Hugging Face ids


def test_hub_commit_is_recorded(folder, monkeypatch):
    snapshot = folder.parent / "snapshots" / "0123abc" / "config.json"
    monkeypatch.setattr("transformers.utils.cached_file", lambda *a, **k: str(snapshot))
    read = backbone._read
    monkeypatch.setattr(backbone, "_read", lambda name, *rest: read(str(folder), *rest))
    source = load_backbone("someone/tiny", revision="main").source
    assert (source["kind"], source["revision"], source["hash"]) == ("hub", "main", "0123abc")


def test_unreachable_hub_id_says_what_was_tried(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no connection")

    monkeypatch.setattr("transformers.utils.cached_file", offline)
    with pytest.raises(OSError, match="'smolm2' is not an alias .smollm2-135m.*no connection"):
        load_backbone("smolm2")


# ---- the language-model head


@pytest.mark.parametrize("tied", [True, False])
def test_head_gives_the_logits_of_the_whole_model(tmp_path, tied):
    torch.manual_seed(0)
    whole = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied)).eval()
    loaded = load_backbone(save_folder(tmp_path, whole), with_head=True)
    assert type(loaded.model) is LlamaModel
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    found = loaded.model(ids).last_hidden_state @ loaded.head.T
    torch.testing.assert_close(found, whole(ids).logits)
    assert torch.equal(loaded.head, loaded.model.embed_tokens.weight) == tied
    assert not loaded.head.requires_grad


def test_a_head_that_is_missing_is_an_error(tmp_path):
    folder = save_folder(tmp_path, LlamaModel(LlamaConfig(**SIZES)))
    assert lacks_head(str(folder)) and not lacks_head("someone/tiny")
    with pytest.raises(OSError, match="weights are missing, among them lm_head.weight"):
        load_backbone(folder, with_head=True)


# ---- options


def test_4bit_needs_bitsandbytes_and_cuda(monkeypatch):
    monkeypatch.setattr(backbone.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"recbole-llm\[quantize\]"):
        load_backbone("anything", load_in_4bit=True)
    monkeypatch.setattr(backbone.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="needs a CUDA device"):
        load_backbone("anything", load_in_4bit=True)


def test_gradient_checkpointing_changes_no_number(folder):
    results = []
    for gradient_checkpointing in (False, True):
        model = load_backbone(folder, gradient_checkpointing=gradient_checkpointing).model
        calls = []
        model.layers[1].mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        torch.manual_seed(0)
        model = add_lora(model, dropout=0.5).train()
        keys_in = torch.randn(3, 2, 4, 32, requires_grad=True)
        output = hidden(model, prefix_cache(model, keys_in, 2 * keys_in))
        output[:, :8].square().sum().backward()
        assert len(calls) == 1 + gradient_checkpointing
        adapters = [p.grad for p in model.parameters() if p.requires_grad]
        results.append([output.detach(), keys_in.grad, *adapters])
    for plain, checkpointed in zip(*results, strict=True):
        assert torch.equal(plain, checkpointed)
    assert results[0][1].abs().max() > 0


def test_importing_modules_is_cheap():
    names = "backbone decoder lora model_files prompt_files"
    code = (
        f"import sys, importlib; [importlib.import_module('recbole_llm.llm.' + name) for name in "
        f"{names.split()}]; assert not {{'transformers', 'peft', 'recbole'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- the embedded model


@pytest.mark.llm
def test_embedded_model_has_a_language_to_it():
    model, tokenizer, source, shape, _ = load_backbone(
        "smollm2-135m", num_layers=2, cache_dir=CACHE
    )
    assert (source["path"], source["kind"], source["num_layers"]) == ("smollm2-135m", "gguf", 2)
    assert shape == (576, 2, 3, 64)
    # related words lie closer than unrelated ones: the weights are the trained ones
    words = [tokenizer(f" {word}").input_ids[0] for word in ("apple", "banana", "parliament")]
    apple, banana, parliament = model.get_input_embeddings().weight[words]
    near, far = (torch.cosine_similarity(apple, x, dim=0) for x in (banana, parliament))
    assert near > far + 0.1


@pytest.mark.llm
# float32: 1.1e-4 seen with hidden states up to 9.9; 9e-5 of it from batch size alone
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-8), (torch.float32, 1e-3)])
def test_embedded_model_with_prefix_is_the_same_padded_and_alone(dtype, atol):
    model, _, _, shape, _ = load_backbone("smollm2-135m", num_layers=2, cache_dir=CACHE)
    model.to(dtype)
    generator = torch.Generator().manual_seed(0)
    embed = model.get_input_embeddings()
    inputs = embed(torch.randint(1000, (2, 9), generator=generator))
    mask = torch.tensor([[1] * 9, [0] * 4 + [1] * 5])
    keys_in, values_in = torch.randn(
        2, shape.n_layers, 2, 10, 576, generator=generator, dtype=dtype
    )
    keys_in.requires_grad_()
    together = last_hidden(model, inputs, mask, prefix_cache(model, keys_in, values_in))
    alone = prefix_cache(model, keys_in[:, 1:], values_in[:, 1:])
    single = last_hidden(model, inputs[1:, 4:], mask[1:, 4:], alone)
    torch.testing.assert_close(together[1:], single, rtol=0, atol=atol)
    together[:, :8].square().sum().backward()
    assert keys_in.grad.abs().amax(dim=(1, 2, 3)).min() > 0
