"""Devices by name: those that are there, and an error before anything is read for the others."""

import pytest
import torch

from recbole_llm.cli.main import main
from recbole_llm.config import Config
from recbole_llm.record import RunRecord


def test_a_run_on_the_cpu_by_name(runner: "object") -> None:
    record: RunRecord = runner("BPR", device="cpu")  # type: ignore[operator]
    assert record.config["device"] == "cpu"
    assert record.config_hash == runner("BPR").config_hash  # type: ignore[operator]


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7", "mps"])
def test_a_device_that_is_not_there_is_an_error(
    device: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert main(["run", "--model=HeLLM", "--dataset=ml-100k", f"--device={device}"]) == 2
    error = capsys.readouterr().err
    assert f"device={device} is not there" in error and "finds cpu." in error


def test_the_number_of_a_gpu_reaches_recbole(monkeypatch: pytest.MonkeyPatch) -> None:
    """RecBole hides the other GPUs, so that the chosen one is its first."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device, gpu_id in [("cuda", "0"), ("cuda:1", "1"), ("cpu", "")]:
        assert Config("BPR", "ml-100k", overrides={"device": device})["gpu_id"] == gpu_id
    with pytest.raises(ValueError, match="cuda:0, cuda:1"):
        Config("BPR", "ml-100k", overrides={"device": "cuda:2"})


def test_names_that_are_no_device(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--device=gpu"], ["--device=cuda:x"], ["--device=cpu", "--gpu_id=1"]):
        assert main(["run", "--model=BPR", "--dataset=ml-100k", *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.gpu
def test_stages_follow_to_the_gpu() -> None:
    config = Config("HeLLM", "ml-100k", overrides={"device": "cuda"})
    assert {each["device"].type for each in (config, *config.stages.values())} == {"cuda"}
