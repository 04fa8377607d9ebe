"""Image features from a folder: what the model itself gives, or a reason why there is none."""

import io
import shutil

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image
from shop import ITEMS, picture
from transformers import AutoImageProcessor, AutoModel

from recbole_llm.encoders.efficientnet import LiteEncoder
from recbole_llm.encoders.images import FORMATS, BadImageError, read_image


@pytest.fixture
def images(shop):
    """The shop's image folder, without images of i7 and i8."""
    folder = shop.path / "images"
    folder.mkdir()
    for seed, item in enumerate(ITEMS[:6]):
        picture(seed, size=(30 + 5 * seed, 60)).save(folder / f"{item}.png")
    return folder


def direct(encoder, pooling):
    """Encode the first six images one at a time, without our code."""
    model = AutoModel.from_pretrained(encoder).eval()
    processor = AutoImageProcessor.from_pretrained(encoder, backend="pil")
    rows = []
    for seed in range(6):
        inputs = processor(images=picture(seed, size=(30 + 5 * seed, 60)), return_tensors="pt")
        with torch.inference_mode():
            if pooling == "projected":
                vector = model.visual_projection(model.vision_model(**inputs).pooler_output)
            else:
                output = getattr(model, "vision_model", model)(**inputs)
                hidden = output.last_hidden_state
                vector = {
                    "pooler": output.pooler_output,
                    "cls": hidden[:, 0],
                    "mean": hidden.sum(1) / hidden.size(1),
                }[pooling]
        rows.append(vector[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize(
    ("model", "asked", "pooling", "width"),
    [
        ("tiny_clip", "auto", "projected", 12),
        ("tiny_clip", "pooler", "pooler", 16),
        ("tiny_vit", "auto", "pooler", 16),
        ("tiny_vit", "mean", "mean", 16),
        ("tiny_dino", "auto", "cls", 16),
    ],
)
def test_rows_are_the_model_s_own_vectors(
    request, shop, images, command, model, asked, pooling, width
):
    encoder = request.getfixturevalue(model)
    options = [f"--encoder={encoder}", f"--pooling={asked}", "--batch_size=4"]
    assert command("image", *options) == 0
    feature, manifest = shop.feature("image"), shop.manifest("image")
    assert feature.shape == (8, width) and manifest["pooling"] == pooling
    assert np.allclose(feature[:6], direct(encoder, pooling), atol=1e-5)
    assert not feature[6:].any() and manifest["missing"] == {"no image file": 2}
    assert manifest["image_processor"].endswith("Pil")


@pytest.mark.llm
def test_the_embedded_encoder_is_the_default(shop, images, command):
    assert command("image", "--batch_size=4") == 0
    feature, manifest = shop.feature("image"), shop.manifest("image")
    assert (manifest["encoder"], manifest["version"]) == ("efficientnet-lite0", "0.1.0")
    assert feature.shape == (8, 1280) and manifest["missing"] == {"no image file": 2}
    encoder = LiteEncoder("auto", torch.device("cpu"))
    for seed in range(6):  # one image at a time gives the same
        inputs = encoder.prepare(picture(seed, size=(30 + 5 * seed, 60)))
        np.testing.assert_allclose(feature[seed], encoder.forward(inputs)[0], atol=1e-4)
    assert not feature[6:].any()
    assert command("image", "--encoder=efficientnet-lite0") == 0  # the same by its name


def test_images_that_cannot_be_read_are_recorded_and_the_others_encoded(
    shop, images, command, tiny_vit, monkeypatch
):
    whole = (images / "i2.png").read_bytes()
    (images / "i2.png").write_bytes(whole[: len(whole) // 2])
    (images / "i3.png").write_bytes(b"<!DOCTYPE html><html>Not found</html>")
    (images / "i4.png").write_bytes(b"")
    Image.new("RGB", (1000, 1000)).save(images / "i5.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600_000)  # Pillow itself would only warn here
    picture(0, size=(1, 1)).save(images / "i6.png")
    (images / "i7.JPG").write_bytes(b"\xff\xd8\xff\xe0 junk")
    assert command("image", f"--encoder={tiny_vit}") == 0
    manifest, feature = shop.manifest("image"), shop.feature("image")
    assert manifest["items_without_feature"] == {
        "i2": "truncated image",
        "i3": "not an image but an HTML page",
        "i4": "not an image but nothing",
        "i5": "more than 600,000 pixels",
        "i7": "not an image but other data",
        "i8": "no image file",
    }
    assert feature.any(axis=1).tolist() == [True, *[False] * 4, True, False, False]
    assert command("image", f"--encoder={tiny_vit}") == 0  # failures are no reason to start again


def test_only_unreadable_images_are_an_error(shop, command, tiny_vit, capsys):
    (shop.path / "images").mkdir()
    (shop.path / "images" / "i1.jpg").write_bytes(b"junk")
    assert command("image", f"--encoder={tiny_vit}") == 2
    assert "none of the 1 inputs can be encoded: not an image" in capsys.readouterr().err
    assert not list(shop.path.glob("*image_feat*.npy"))


def test_changed_image_is_noticed(shop, images, command, tiny_vit, capsys):
    assert command("image", f"--encoder={tiny_vit}") == 0
    picture(99).save(images / "i1.png")
    assert command("image", f"--encoder={tiny_vit}") == 2
    assert "inputs_sha256" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["L", "LA", "P", "CMYK", "RGBA", "1", "I;16"])
def test_every_mode_becomes_rgb(mode):
    buffer = io.BytesIO()
    image = picture(0).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    image.save(buffer, "jpeg" if mode == "CMYK" else "png")
    assert Image.open(buffer).mode == mode
    assert read_image(buffer.getvalue()).mode == "RGB"


def test_grey_levels_of_sixteen_bits_keep_their_range():
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 128 * 257, dtype=np.uint16)).save(buffer, "png")
    assert np.asarray(read_image(buffer.getvalue())).max() == 128


def test_transparent_is_white():
    buffer = io.BytesIO()
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(buffer, "png")
    assert np.asarray(read_image(buffer.getvalue())).min() == 255


def test_formats_that_pillow_hands_to_other_programs_are_refused(monkeypatch):
    buffer = io.BytesIO()
    picture(0).save(buffer, "eps")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("was called"))
    with pytest.raises(BadImageError, match="not an image but other data"):
        read_image(buffer.getvalue())


@pytest.mark.parametrize("kind", FORMATS)
def test_formats_that_shops_use_are_read(kind):
    buffer = io.BytesIO()
    picture(0).save(buffer, kind)
    assert read_image(buffer.getvalue()).size == picture(0).size


def test_bomb_is_refused_before_its_pixels_are_decoded(monkeypatch):
    buffer = io.BytesIO()
    Image.new("1", (1100, 1000)).save(buffer, "png")  # up to twice the limit Pillow only warns
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    with pytest.raises(BadImageError, match="more than 1,000,000 pixels"):
        read_image(buffer.getvalue())


def test_hub_id_is_found_in_the_local_cache_and_its_commit_recorded(
    shop, images, command, tiny_clip, tmp_path, monkeypatch
):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--shop--tiny-clip"
    shutil.copytree(tiny_clip, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert command("image", "--encoder=shop/tiny-clip", "--dtype=float16") == 0
    manifest = shop.manifest("image")
    assert (manifest["encoder"], manifest["version"]) == ("shop/tiny-clip", commit)
    assert shop.feature("image").dtype == np.float16
    assert np.allclose(shop.feature("image")[:6], direct(tiny_clip, "projected"), atol=1e-2)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--pooling=cls"], "'efficientnet-lite0' has no --pooling=cls, it has: mean"),
        (["--revision=main"], "--revision goes with --encoder=<Hugging Face id> only"),
        (["--encoder={vit}", "--pooling=projected"], "has no --pooling=projected, it has: pooler"),
        (["--encoder={dino}", "--pooling=pooler"], "has no --pooling=pooler, it has: cls, mean"),
        (
            ["--encoder={vit}", "--image_folder=nowhere"],
            "no folder nowhere (expected files: <item token>",
        ),
        (["--encoder={vit}", "--columns=title"], "--columns does not go with --modality=image"),
        (["--encoder={vit}", "--concurrency=2"], "--concurrency goes with --url_column only"),
        (["--encoder={vit}", "--image_folder=a", "--url_column=b"], "Give one."),
        (["--encoder={empty}"], "cannot be loaded as a vision model of transformers"),
    ],
)
def test_what_is_wrong_is_said(
    command, images, tiny_vit, tiny_dino, tmp_path, extra, message, capsys
):
    (tmp_path / "empty").mkdir()
    folders = {"vit": tiny_vit, "dino": tiny_dino, "empty": tmp_path / "empty"}
    assert command("image", *(word.format(**folders) for word in extra)) == 2
    assert message in capsys.readouterr().err


def test_folder_without_any_item_s_image(shop, command, tiny_vit, capsys):
    (shop.path / "images").mkdir()
    (shop.path / "images" / "other.jpg").write_bytes(b"")
    assert command("image", f"--encoder={tiny_vit}") == 2
    assert "has no image of any of the 8 items" in capsys.readouterr().err
