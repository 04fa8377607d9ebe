"""The growing file: what was written is found again, whatever moment it was killed in."""

import numpy as np
import pytest

from recbole_llm.features.partial import PartialFeatures


@pytest.fixture
def grower(tmp_path):
    """Return a function that opens the file of 6 rows of width 2."""

    def call(identity="a", overwrite=False):
        output = tmp_path / "text_feat.npy"
        return PartialFeatures(output, {"encoder": identity}, (6, 2), "float16", overwrite)

    return call


def test_half_written_line_is_dropped_and_the_next_ones_are_read(grower, tmp_path):
    grower().write(2, np.array([5, 0]), np.array([[1, 2], [3, 4]]), {})
    with (tmp_path / ".text_feat.partial.jsonl").open("a") as file:
        file.write('{"done": 4, "fai')
    again = grower()
    assert again.n_done == 2
    again.write(3, np.array([], dtype=np.int64), np.zeros((0, 2)), {2: "truncated image"})
    third = grower()
    assert third.n_done == 3 and third.failed == {2: "truncated image"}
    third.finish()
    expected = [[3, 4], [0, 0], [0, 0], [0, 0], [0, 0], [1, 2]]
    assert np.load(tmp_path / "text_feat.npy").tolist() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["text_feat.npy"]


def test_other_identity_is_refused_or_starts_anew(grower):
    grower().write(2, np.array([0, 1]), np.ones((2, 2)), {})
    with pytest.raises(ValueError, match=r"unfinished work .*encoder: 'a', now 'b'.*--overwrite"):
        grower("b")
    assert grower("a").n_done == 2
    assert grower("b", overwrite=True).n_done == 0
    assert grower("b").n_done == 0


def test_first_line_half_written_starts_anew(grower, tmp_path):
    grower()
    (tmp_path / ".text_feat.partial.jsonl").write_text('{"enc')
    assert grower().n_done == 0


@pytest.mark.parametrize("kept", [140, 151, 100, 0])
def test_kind_8_a_truncated_file_starts_anew(kept, grower, tmp_path):
    grower().write(5, np.arange(5), np.ones((5, 2)), {1: "no text"})
    path = tmp_path / ".text_feat.partial.npy"
    path.write_bytes(path.read_bytes()[:kept])
    again = grower()
    assert again.n_done == 0 and again.failed == {}, "its rows would be zero"
    assert np.load(path).shape == (6, 2)


def test_kind_8_a_file_of_another_shape_starts_anew(grower, tmp_path):
    grower().write(5, np.arange(5), np.ones((5, 2)), {})
    np.save(tmp_path / ".text_feat.partial.npy", np.ones((6, 2), np.float32))
    assert grower().n_done == 0
