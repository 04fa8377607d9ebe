import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import GPT2Config, LlamaConfig, LlamaModel
from transformers.models.auto import AutoModel

from recbole_llm.llm.decoder import last_hidden
from recbole_llm.llm.lora import add_lora, save_adapter


def tiny():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=20,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
    )
    return LlamaModel(config).eval().requires_grad_(False)


def trained(r=4, **options):
    """An adapted model whose adapter has left its initial state."""
    model = add_lora(tiny(), r=r, **options).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(generator=generator)
    return model


def hidden(model):
    inputs = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(2))
    return last_hidden(model, inputs, torch.ones(2, 5, dtype=torch.long))


def test_adapter_starts_as_no_change_and_training_moves_it_alone():
    base = hidden(tiny())
    model = add_lora(tiny(), r=4, dropout=0.0).train()
    assert torch.equal(hidden(model), base)

    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=1.0)
    for _ in range(2):  # B starts at zero, so A moves from the second step on
        optimizer.zero_grad()
        hidden(model)[:, :8].square().sum().backward()  # all 32: constant after the norm
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != ("lora_" in name), name


def test_adapter_sits_on_the_named_projections_with_the_scale_alpha_over_r():
    model = add_lora(tiny(), r=4, alpha=8)
    wrapped = {n.rsplit(".", 1)[-1] for n, m in model.named_modules() if hasattr(m, "lora_A")}
    assert wrapped == {"gate_proj", "up_proj", "down_proj"}
    # 2 layers x (gate and up: 32 -> 48, down: 48 -> 32), each r * (in + out)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 2 * 3 * 4 * (32 + 48)

    model = trained(r=4, alpha=8, target_modules=["down_proj"])
    layer = model.get_base_model().layers[0].mlp.down_proj
    x = torch.randn(1, 48)
    update = x @ layer.lora_A["default"].weight.T @ layer.lora_B["default"].weight.T
    torch.testing.assert_close(layer(x), layer.base_layer(x) + 2.0 * update)


def test_saved_folder_holds_the_adapter_only_and_peft_loads_it(tmp_path):
    model = trained()
    save_adapter(model, tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert all("lora_" in name for name in saved)
    assert sum(weight.numel() for weight in saved.values()) == 2 * 3 * 4 * (32 + 48)

    loaded = PeftModel.from_pretrained(tiny(), tmp_path).eval()
    assert torch.equal(hidden(loaded), hidden(model))


def test_unknown_targets_list_what_there_is():
    with pytest.raises(ValueError, match="up is not a linear.*down_proj, gate_proj, k_proj"):
        add_lora(tiny(), target_modules=["gate_proj", "up"])
    gpt2 = AutoModel.from_config(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2))
    with pytest.raises(ValueError, match="gate_proj, up_proj, down_proj.*linear layers: none"):
        add_lora(gpt2)
    with pytest.raises(ValueError, match="must be a list"):
        add_lora(tiny(), target_modules="all-linear")
    with pytest.raises(ValueError, match="nothing is not a linear layer"):
        add_lora(tiny(), target_modules=[])


@pytest.mark.parametrize(("name", "value"), [("r", 0), ("dropout", 1.0), ("dropout", -0.1)])
def test_options_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"got {name}={value}"):
        add_lora(tiny(), **{name: value})
