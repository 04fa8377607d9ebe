"""Text features by the embedded encoder: right, resumable, and never mistaken for others."""

import json
import re
import signal

import numpy as np
import pytest
from shop import ITEMS, wait_until

import recbole_llm
from recbole_llm.encoders import sentences
from recbole_llm.encoders.text import load_encoder

pytestmark = pytest.mark.llm
SHOE = "Red shoe 1, Acme"


@pytest.fixture
def encoded_texts(monkeypatch):
    """The texts that reach the encoder, which still encodes them."""
    texts, real = [], sentences.unit_vectors

    def counted(model, batch, *rest, **options):
        texts.extend(batch)
        return real(model, batch, *rest, **options)

    monkeypatch.setattr(sentences, "unit_vectors", counted)
    return texts


def test_rows_are_the_encoder_s_own_vectors(shop, command, encoded_texts, capsys):
    assert command("text", "--columns=title,brand") == 0
    feature = shop.feature("text")
    assert feature.shape == (8, 384) and feature.dtype == np.float32
    model = load_encoder("all-minilm-l6-v2")
    expected = model.encode([SHOE, "Red shoe 3, Acme"])  # this model normalises by itself
    assert np.allclose(feature[[0, 2]], expected, atol=1e-6)
    assert not feature[4].any()  # i5 has no text
    assert np.array_equal(feature[5], feature[0]) and encoded_texts.count(SHOE) == 1
    assert (shop.path / "item_ids.txt").read_text().split() == ITEMS
    manifest = shop.manifest("text")
    assert manifest["missing"] == {"no text": 1} and manifest["failed"] == {}
    assert manifest["items_without_feature"] == {"i5": "no text"}
    assert (manifest["encoded"], manifest["distinct_inputs"]) == (7, 6)
    assert manifest["interaction_items_without_row"] == 1
    assert (manifest["pooling"], manifest["version"]) == ("mean", "0.1.0")
    out = capsys.readouterr().out
    assert "7 of 8" in out and "1 items of the interactions have no row" in out


def test_default_columns_leave_out_ids_and_urls(shop, command):
    assert command("text") == 0
    assert shop.manifest("text")["columns"] == ["title", "brand"]


def test_the_ids_file_decides_which_items_have_a_row(shop, command):
    (shop.path / "item_ids.txt").write_text("i9\ni3\ni1\n")
    assert command("text") == 0
    feature, manifest = shop.feature("text"), shop.manifest("text")
    assert len(feature) == 3 and not feature[0].any() and feature[1:].any(axis=1).all()
    assert manifest["items_without_feature"] == {"i9": "not in shop.item"}
    assert manifest["interaction_items_without_row"] == 6
    assert (shop.path / "item_ids.txt").read_text() == "i9\ni3\ni1\n"


def test_the_same_command_again_changes_no_byte_and_encodes_nothing(shop, command, encoded_texts):
    def files():
        return {p.name: p.read_bytes() for p in shop.path.glob("text_feat.*")}

    assert command("text") == 0
    first, n_encoded = files(), len(encoded_texts)
    assert command("text") == 0 and len(encoded_texts) == n_encoded
    assert files() == first
    assert command("text", "--overwrite") == 0 and len(encoded_texts) == 2 * n_encoded
    assert files() == first


def test_other_settings_and_inputs_are_refused_without_overwrite(shop, command, capsys):
    assert command("text") == 0
    before = shop.feature("text")
    assert command("text", "--dtype=float16") == 2
    assert "(dtype: 'float32', now 'float16'). Give --overwrite" in capsys.readouterr().err
    assert command("text", "--columns=brand") == 2
    assert "columns: ['title', 'brand'], now ['brand']" in capsys.readouterr().err
    assert np.array_equal(shop.feature("text"), before)
    assert command("text", "--dtype=float16", "--overwrite") == 0
    half = shop.feature("text")
    assert half.dtype == np.float16 and np.allclose(half, before, atol=1e-3)
    item_file = shop.path / "shop.item"
    item_file.write_text(item_file.read_text().replace("shoe 2", "boot 2"))
    assert command("text", "--dtype=float16") == 2
    assert "inputs_sha256" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["manifest", "damage", "feature"])
def test_a_file_that_its_manifest_does_not_describe_is_refused(shop, command, change, capsys):
    assert command("text") == 0
    manifest = shop.path / "text_feat.json"
    if change == "manifest":
        manifest.unlink()
    elif change == "damage":
        manifest.write_text("{")
    else:
        np.save(shop.path / "text_feat.npy", np.ones((8, 384), np.float32))
    assert command("text") == 2
    message = {"manifest": "without text_feat.json", "damage": "damaged", "feature": "is not the"}
    assert message[change] in capsys.readouterr().err


def test_killed_run_goes_on_and_encodes_nothing_twice(shop, starter, command, encoded_texts):
    lines = (shop.path / "shop.item").read_text().splitlines()
    lines += [f"x{n}\t{' '.join(f'word{n * k}' for k in range(12))}\tB\tb\t" for n in range(30)]
    (shop.path / "shop.item").write_text("\n".join(lines) + "\n")
    progress = shop.path / ".text_feat.partial.jsonl"
    process = starter("text", "--batch_size=1")
    wait_until(lambda: progress.is_file() and progress.read_text().count("\n") >= 4)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (shop.path / "text_feat.npy").exists()
    with progress.open("a") as file:
        file.write('{"done": 9')  # as if killed while it wrote
    n_done = [json.loads(line) for line in progress.read_text().splitlines()[:-1]][-1]["done"]
    assert 3 <= n_done < 36
    assert command("text", "--batch_size=2") == 0  # another batch size goes on as well
    assert len(encoded_texts) == len(set(encoded_texts)) == 36 - n_done
    resumed = shop.feature("text")
    assert command("text", "--overwrite", "--batch_size=1") == 0
    assert np.allclose(resumed, shop.feature("text"), atol=1e-6)
    assert sorted(p.name for p in shop.path.glob(".*partial*")) == []


def test_unfinished_work_of_other_settings_is_kept(shop, command, monkeypatch, capsys):
    real = sentences.unit_vectors

    def dies(model, batch, *rest, **options):
        if SHOE in batch:
            raise KeyboardInterrupt
        return real(model, batch, *rest, **options)

    monkeypatch.setattr(sentences, "unit_vectors", dies)
    assert command("text", "--batch_size=1") == 130
    monkeypatch.setattr(sentences, "unit_vectors", real)
    assert "the same command resumes" in capsys.readouterr().err
    unfinished = (shop.path / ".text_feat.partial.jsonl").read_text()
    assert command("text", "--columns=title") == 2
    err = capsys.readouterr().err
    assert "unfinished work" in err and "columns: ['title', 'brand'], now ['title']" in err
    assert (shop.path / ".text_feat.partial.jsonl").read_text() == unfinished
    assert command("text", "--columns=title", "--overwrite") == 0
    assert shop.manifest("text")["columns"] == ["title"]


def test_vbpr_trains_on_the_features(own_ml100k, work, command):
    from recbole_llm.cli.main import main

    item_file = own_ml100k / "ml-100k" / "ml-100k.item"
    lines = item_file.read_text().splitlines()
    item_file.write_text("\n".join([*lines[:40], ""]))  # the others have no text, and no row
    place = ["--dataset=ml-100k", f"--data_path={own_ml100k}", "--show_progress=false"]
    assert main(["encode", *place, "--modality=text", "--columns=class"]) == 0
    record = recbole_llm.run(
        "VBPR",
        "ml-100k",
        data_path=str(own_ml100k),
        modalities={"text": "text_feat.npy"},
        load_col={"inter": ["user_id", "item_id", "timestamp"]},
        epochs=1,
        show_progress=False,
        torch_threads=1,
        state="WARNING",
    )
    assert record.metrics["test"]["recall@20"] > 0


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--columns=titel"], "--columns: .*has no column 'titel', it has item_id, title"),
        (["--encoder=./nowhere"], "text encoder './nowhere' is not an alias"),
        (["--batch_size=0"], "--batch_size must be at least 1"),
        (["--dtype=int8"], "--dtype must be one of float32, float16, got 'int8'"),
        (["--pooling=cls"], "--pooling does not go with --modality=text"),
        (["--output=feat.bin"], "--output must name a .npy file"),
        (["--colums=title"], "unknown key 'colums'"),
        (["--model=LightGCN"], "--model is not taken here"),
    ],
)
def test_what_is_wrong_is_said(command, extra, message, capsys):

    assert command("text", *extra) == 2
    assert re.search(message, capsys.readouterr().err)


def test_unknown_id_is_reported_at_once_offline(command, monkeypatch, capsys):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert command("text", "--encoder=no/such") == 2
    err = capsys.readouterr().err
    assert "'no/such' is not an alias" in err and "could not be downloaded" in err
    assert command("image", "--encoder=no/such") == 2
    assert "image encoder 'no/such' is not a folder" in capsys.readouterr().err


def test_missing_item_file(shop, command, capsys):
    (shop.path / "shop.item").unlink()
    assert command("text") == 2
    assert "item_ids.txt nor shop.item exists" in capsys.readouterr().err
    (shop.path / "item_ids.txt").write_text("i1\n")
    assert command("text") == 2
    assert "shop.item does not exist. It must hold the items' text" in capsys.readouterr().err


def test_installed_recbole_is_left_alone(tmp_path, capsys):
    from recbole_llm.cli.main import main

    place = ["--dataset=ml-100k", f"--data_path={tmp_path}", "--modality=text"]
    assert main(["encode", *place]) == 2
    assert "Give --output=FILE.npy" in capsys.readouterr().err


def test_kind_8_half_a_manifest_of_a_killed_run_is_cleared(shop, command):
    half = shop.path / ".text_feat.json.1.2.partial"
    half.touch()
    other = shop.path / ".image_feat.json.1.2.partial"  # of another process, perhaps a live one
    other.touch()
    assert command("text") == 0
    assert not half.exists() and other.exists()
