import errno
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from recbole.model.abstract_recommender import GeneralRecommender

from recbole_llm.trainer.checkpoint import (
    load_checkpoint,
    load_weights,
    random_state,
    save_checkpoint,
    set_random_state,
)


def draw() -> list[float]:
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn()] + (
        torch.rand(2).tolist()
    )


def test_round_trip_keeps_values_types_and_nesting(tmp_path: Path) -> None:
    sparse = scipy.sparse.csr_matrix(np.array([[0, 1.5, 0], [2, 0, 0]]))
    state = {
        "weights": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])},
        "array": np.arange(4, dtype=np.float32)[::2],
        "matrix": np.asmatrix([[1.0, 2.0]]),
        "sparse": sparse,
        "list": [1, (2.5, "text", None), {"deep": [np.ones(2, dtype=np.int64)]}],
        "scalar": np.float64(0.25),
        "flag": True,
    }
    path = tmp_path / "new" / "folder" / "state.pth"
    save_checkpoint(path, state)
    found = load_checkpoint(path)
    assert torch.equal(found["weights"]["a"], state["weights"]["a"])
    assert torch.equal(found["weights"]["b"], state["weights"]["b"])
    assert found["array"].dtype == np.float32 and found["array"].tolist() == [0, 2]
    assert isinstance(found["matrix"], np.matrix) and found["matrix"].tolist() == [[1, 2]]
    assert found["sparse"].shape == (2, 3) and (found["sparse"] != sparse).nnz == 0
    assert found["list"][:2] == [1, (2.5, "text", None)]
    assert found["list"][2]["deep"][0].tolist() == [1, 1]
    assert found["scalar"] == 0.25 and isinstance(found["scalar"], float)
    assert found["flag"] is True


def test_file_is_readable_without_unpickling_code(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pth", {"x": np.ones(3), "y": scipy.sparse.eye(2)})
    assert torch.load(tmp_path / "a.pth", weights_only=True)["format"] == "recbole-llm/1"


def test_an_object_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot hold a .*Path"):
        save_checkpoint(tmp_path / "a.pth", {"deep": [{"x": Path("y")}]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_truncated_file_is_named(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "last.pth"
    save_checkpoint(path, {"x": torch.rand(1000)})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else int(kept)])
    with pytest.raises(ValueError, match=r"last\.pth is damaged"):
        load_checkpoint(path)


class Planted:
    """Pickles to a call, as a checkpoint from a stranger may."""

    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("planted"),))


def test_pickled_objects_are_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"config": Planted(), "state_dict": {}}, "BPR.pth", pickle_protocol=4)
    with pytest.raises(ValueError, match=r"BPR\.pth .*written by RecBole itself"):
        load_checkpoint(Path("BPR.pth"))
    assert not Path("planted").exists()
    Path("plain.pth").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match=r"plain\.pth"):
        load_checkpoint(Path("plain.pth"))


def test_another_format_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="not a checkpoint of recbole-llm"):
        load_checkpoint(tmp_path / "x.pth")
    with pytest.raises(FileNotFoundError, match=r"y\.pth does not exist"):
        load_checkpoint(tmp_path / "y.pth")


@pytest.mark.parametrize(
    "failure",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed")],
)
def test_full_disk_leaves_the_previous_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    path = tmp_path / "last.pth"
    save_checkpoint(path, {"epoch": 1})

    def save(state: object, file: object) -> None:
        file.write(b"half of it")
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        with pytest.raises(
            OSError, match=r"last\.pth.*previous checkpoint there is intact"
        ) as info:
            save_checkpoint(path, {"epoch": 2})
        with pytest.raises(OSError) as first:
            save_checkpoint(tmp_path / "other.pth", {"epoch": 2})
    assert str(failure) in str(info.value) and "--resume" in str(info.value)
    assert "intact" not in str(first.value)
    assert [p.name for p in tmp_path.iterdir()] == ["last.pth"]
    assert load_checkpoint(path)["epoch"] == 1


def test_random_state_survives_the_file(tmp_path: Path) -> None:
    draw()
    random.gauss(0, 1)  # leaves a second normal value in the generator's pocket
    save_checkpoint(tmp_path / "r.pth", {"random": random_state()})
    wanted = draw()
    draw()
    set_random_state(load_checkpoint(tmp_path / "r.pth")["random"])
    assert draw() == wanted


def test_kind_8_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    save_checkpoint(path, {"x": torch.rand(1000), "epoch": 3})
    whole, draws = path.read_bytes(), random.Random(0)
    for _ in range(60):
        flipped = bytearray(whole)
        flipped[draws.randrange(len(whole))] ^= 1 << draws.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"last\.pth is damaged"):
            load_checkpoint(path)
    path.write_bytes(whole)
    assert set(load_checkpoint(path)) == {"format", "version", "x", "epoch"}


@pytest.mark.parametrize("cut", [1, 70, 71, 72, 73, 90])
def test_kind_8_a_cut_off_checksum_is_noticed(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "last.pth"
    save_checkpoint(path, {"x": torch.rand(10)})
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ValueError, match=r"last\.pth is damaged"):
        load_checkpoint(path)


def test_a_file_of_a_version_without_checksums_is_loaded(tmp_path: Path) -> None:
    torch.save({"format": "recbole-llm/1", "x": torch.ones(2)}, tmp_path / "old.pth")
    assert load_checkpoint(tmp_path / "old.pth")["x"].tolist() == [1, 1]


@pytest.mark.parametrize("size", [1, 10, 100, 5000])
def test_kind_7_random_bytes_are_named(tmp_path: Path, size: int) -> None:
    path = tmp_path / "best.pth"
    for seed in range(20):
        path.write_bytes(random.Random(seed).randbytes(size))
        with pytest.raises(ValueError, match=r"best\.pth") as info:
            load_checkpoint(path)
        assert "\n" not in str(info.value)


class Small(GeneralRecommender):
    """One weight, and one value besides the weights."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.other_parameter_name = ["item_cnt"]
        self.item_cnt = None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state_dict": None}, "'state_dict' is of type NoneType, expected dict"),
        ({"state_dict": {"weight": torch.zeros(3)}}, "size mismatch for weight"),
        ({"state_dict": {}}, "weight"),
        ({"state_dict": {"weight": "text"}}, "weight"),
        ({"other_parameter": {"forward": 1}}, "has no forward"),
        ({"other_parameter": 1}, "'other_parameter' is of type int"),
    ],
)
def test_kind_7_content_that_does_not_fit_is_named(
    tmp_path: Path, change: dict, message: str
) -> None:
    path, model = tmp_path / "best.pth", Small()
    content = {"state_dict": {"weight": torch.ones(2)}, "other_parameter": {"item_cnt": 3}}
    save_checkpoint(path, content)
    load_weights(model, path)
    assert model.item_cnt == 3 and model.weight.tolist() == [1, 1]
    save_checkpoint(path, {**content, **change})
    with pytest.raises(ValueError, match=message) as info:
        load_weights(model, path)
    assert "best.pth" in str(info.value) and "\n" not in str(info.value)
    save_checkpoint(path, {"other_parameter": {}})
    with pytest.raises(ValueError, match=r"best\.pth .*lacks 'state_dict'"):
        load_weights(model, path)
