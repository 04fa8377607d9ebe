"""The device that a run asks for by torch's name, and the GPUs of several processes."""

import os
from collections.abc import Mapping
from typing import Any

import torch

from recbole_llm.launcher import launched, own_gpu

# RecBole changes the variable for the process to the GPUs that it is to use.
_VISIBLE_GPUS = os.environ.get("CUDA_VISIBLE_DEVICES")

MPS = torch.device("mps")


def gpu_of(device: str, given: Mapping[str, Any]) -> str:
    """Return RecBole's ``gpu_id`` of a device: a number, or nothing where it is no CUDA device.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        given: settings that the user gave.

    Raises:
        ValueError: ``gpu_id`` is given too; or torch does not find the device, and the text says
            which ones it finds.
    """
    if "gpu_id" in given:
        raise ValueError("device and gpu_id say the same thing; give one of them.")
    kind, _, number = device.partition(":")
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    found += ["mps"] if torch.backends.mps.is_available() else []
    if kind != "cpu" and not {device, f"{device}:0"} & set(found):
        raise ValueError(
            f"device={device} is not there: torch {torch.__version__} finds "
            f"{', '.join(['cpu', *found])}. Choose one of these, or leave --device out."
        )
    return number or "0" if kind == "cuda" else ""


def share_gpus(final: dict[str, Any]) -> None:
    """Give this one of several processes its GPU, and let the first one alone report.

    Args:
        final: resolved settings, which are changed.

    Raises:
        ValueError: there are fewer GPUs than processes on this machine.
    """
    gpu_id = final["gpu_id"]
    gpu_id = ",".join(map(str, gpu_id if isinstance(gpu_id, (list, tuple)) else [gpu_id]))
    final["gpu_id"] = own_gpu(gpu_id, _VISIBLE_GPUS)
    if launched().rank:
        final["show_progress"] = final["log_wandb"] = False
