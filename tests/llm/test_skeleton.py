"""Kind 7: what a language model lacks is found before any stage is trained."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from recbole_llm.config import Config
from recbole_llm.llm.skeleton import build_skeleton

SIZES = {
    "vocab_size": 20,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {
    "n_routed_experts": 4,
    "n_group": 2,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 8,
}
SHIPPED = ["gate_proj", "up_proj", "down_proj"]
HYBRID = "Qwen3_5DecoderLayer has no self_attn, and training=windows needs attention"
#: Config's class, its settings, ``lora_targets``, and what is said of it.
REFUSED: dict[str, tuple[str, dict[str, Any], list[str], str]] = {
    "qwen3.5": ("Qwen3_5TextConfig", {"head_dim": 4}, SHIPPED, HYBRID),
    "lfm2": ("Lfm2Config", {}, ["w1", "w2", "w3"], "Lfm2"),
    "lfm2, shipped targets": ("Lfm2Config", {}, SHIPPED, "gate_proj, up_proj, down_proj is not a"),
    "phi3": ("Phi3Config", {}, ["gate_up_proj", "down_proj"], "Phi3DecoderLayer has no self_attn"),
    "phi3, shipped targets": ("Phi3Config", {}, SHIPPED, "gate_proj, up_proj is not a linear"),
    "deepseek-v3": ("DeepseekV3Config", EXPERTS, SHIPPED, "PEFT cannot put adapters on gate_proj"),
    "deepseek-v3, attention": ("DeepseekV3Config", EXPERTS, ["o_proj"], "no self_attn.k_proj"),
    "gpt-2": ("GPT2Config", {}, ["c_fc"], "c_fc is not a linear layer of this GPT2Model"),
    "mistral": ("MistralConfig", {"sliding_window": 32}, SHIPPED, "last 32 only"),
}


@pytest.fixture
def saver(tmp_path: Path, tiny_llm: str):
    """Return a function that writes a config and a tokenizer, and no weights."""

    def call(name: str, **settings: Any) -> str:
        getattr(transformers, name)(**{**SIZES, **settings}).save_pretrained(tmp_path)
        transformers.AutoTokenizer.from_pretrained(tiny_llm).save_pretrained(tmp_path)
        return str(tmp_path)

    return call


@pytest.mark.parametrize("case", REFUSED)
def test_kind7_a_decoder_that_hellm_cannot_use_is_refused_by_name(saver, case: str) -> None:
    name, settings, targets, message = REFUSED[case]
    folder = saver(name, **settings)
    line = {"llm_path": folder, "lora_targets": targets}
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        Config("HeLLM", "ml-100k", command_line=line).check_available()
    text = str(error.value)
    assert text.startswith(f"llm_path={folder!r}, a ") and "\n" not in text


@pytest.mark.parametrize("name", ["Qwen3_5TextConfig", "Lfm2Config", "Phi3Config", "MistralConfig"])
def test_without_the_graph_prefix_the_layers_need_no_keys(saver, name: str) -> None:
    folder = saver(name, **({"sliding_window": 32} if name == "MistralConfig" else {"head_dim": 4}))
    targets = {"Lfm2Config": ["w1"], "Phi3Config": ["gate_up_proj"]}.get(name, SHIPPED)
    line = {"llm_path": folder, "lora_targets": targets, "use_graph_prefix": False}
    line |= {"training": "prefixes"}
    Config("HeLLM", "ml-100k", command_line=line).check_available()


@pytest.mark.parametrize(
    ("name", "settings", "targets", "message"),
    [
        ("Qwen3_5TextConfig", {"head_dim": 4}, SHIPPED, "has no self_attn"),
        ("MistralConfig", {"sliding_window": 32}, SHIPPED, "last 32 only"),
    ],
)
def test_kind7_windows_need_attention_that_sees_all_of_them(
    saver, name: str, settings: dict[str, Any], targets: list[str], message: str
) -> None:
    folder = saver(name, **settings)
    line = {"llm_path": folder, "lora_targets": targets, "use_graph_prefix": False}
    config = Config("HeLLM", "ml-100k", command_line=line)
    with pytest.raises(ValueError, match=re.escape(message)):
        config.check_available()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("LlamaConfig", {}),
        ("Qwen2Config", {}),
        ("Qwen3Config", {"head_dim": 4}),
        ("Gemma2Config", {"head_dim": 4}),
        ("Gemma3TextConfig", {"head_dim": 4}),
        ("Olmo2Config", {}),
        ("MistralConfig", {"sliding_window": 500}),
    ],
)
def test_decoders_that_hellm_can_use_pass(saver, name: str, settings: dict[str, Any]) -> None:
    Config("HeLLM", "ml-100k", command_line={"llm_path": saver(name, **settings)}).check_available()


@pytest.mark.parametrize("model", ["HeLLM", "GALRec"])
def test_kind7_more_layers_than_there_are_and_other_targets(model: str, tiny_llm: str) -> None:
    for line, message in (
        ({"llm_num_layers": 3}, "num_layers must be an integer in 1..2"),
        ({"lora_targets": ["q"]}, "target_modules: q is not a linear layer of this LlamaModel"),
    ):
        config = Config(model, "ml-100k", command_line={"llm_path": tiny_llm, **line})
        with pytest.raises(ValueError, match=re.escape(message)):
            config.check_available()


def test_kind7_checkpointing_needs_a_list_of_layers(saver) -> None:
    line = {"llm_path": saver("GPT2Config"), "gradient_checkpointing": True}
    with pytest.raises(ValueError, match="no list of decoder layers"):
        Config("GALRec", "ml-100k", command_line=line).check_available()


def test_kind7_an_encoder_decoder_is_for_galrec_alone(tiny_t5: str) -> None:
    line = {"llm_path": tiny_t5, "lora_targets": ["q", "wo"]}
    Config("GALRec", "ml-100k", command_line=line).check_available()
    with pytest.raises(ValueError, match="only decoders are supported"):
        Config("HeLLM", "ml-100k", command_line=line).check_available()


def test_kind7_a_config_that_no_model_can_be_built_from(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": "many"}')
    with pytest.raises((ValueError, OSError), match=re.escape(f"llm_path={str(tmp_path)!r}")):
        build_skeleton(str(tmp_path))


def test_a_skeleton_has_the_layers_and_no_weights_and_draws_no_number(tiny_llm: str) -> None:
    state = torch.get_rng_state()
    skeleton = build_skeleton(tiny_llm, num_layers=1)
    assert len(skeleton.model.layers) == 1
    assert {weight.device.type for weight in skeleton.model.parameters()} == {"meta"}
    assert not any(weight.requires_grad for weight in skeleton.model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert skeleton.load_tokenizer()("Purchase").input_ids


def test_kind7_no_stage_is_trained_for_a_decoder_that_does_not_do(saver, cli) -> None:
    done = cli("--model=HeLLM", "--dataset=ml-100k", f"--llm_path={saver('Qwen3_5TextConfig')}")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "Warning" not in line]
    assert HYBRID in line and not (cli.work / "runs").exists()
