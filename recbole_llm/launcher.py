"""What ``torchrun`` and ``accelerate launch`` tell each process that they start.

They set ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK``; a process that was started otherwise is one of
one. Importing this module loads no torch.
"""

import os
from typing import NamedTuple

#: Note on an error that the main process reports, so that the others need not.
REPORTED_BY_MAIN = "reported by process 0"

# Features of accelerate's configuration that this package's training does not have.
_SHARDING = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


class Place(NamedTuple):
    """One of several processes.

    Attributes:
        rank: number of the process, counted from 0; number 0 is the main one.
        n_processes: number of processes.
        local_rank: number of the process among those of its machine, counted from 0.
    """

    rank: int = 0
    n_processes: int = 1
    local_rank: int = 0

    def __str__(self) -> str:
        return f"process {self.rank} of {self.n_processes}"


def launched() -> Place:
    """Return what the launcher set for this process.

    Raises:
        ValueError: a variable is no number, or one of the three is missing.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    words = [os.environ.get(name, "") for name in names]
    if words[1] in ("", "1"):
        return Place()
    if not all(word.isdecimal() for word in words):
        given = ", ".join(f"{name}={word!r}" for name, word in zip(names, words, strict=True))
        raise ValueError(
            f"WORLD_SIZE asks for several processes, and each needs a number in {names[0]} and "
            f"{names[2]}, got {given}. Start them with `torchrun --nproc-per-node=N -m recbole_llm "
            f"...`, which sets all three."
        )
    return Place(*map(int, words))


def check_launcher() -> None:
    """Check that accelerate's configuration asks for nothing that is not done here.

    Raises:
        ValueError: it asks for sharded weights, or for mixed precision.
    """
    for variable, name in _SHARDING.items():
        if os.environ.get(variable, "").lower() in ("true", "1"):
            raise ValueError(
                f"accelerate's configuration asks for {name}, which shards a model's weights; here "
                f"every process holds the whole model. Choose multi-GPU without {name} in "
                f"`accelerate config`, or `accelerate launch --multi_gpu`."
            )
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision != "no":
        raise ValueError(
            f"accelerate's configuration asks for mixed_precision={precision}, which is a setting "
            f"of the run here: add --mixed_precision=no to `accelerate launch`, and set "
            f"--llm_dtype or --enable_amp for the run."
        )


def own_gpu(gpu_id: str, visible: str | None) -> str:
    """Return the GPU of this process, as ``CUDA_VISIBLE_DEVICES`` names it; empty for the CPU.

    Args:
        gpu_id: the setting; of one number, as its default is, the first GPUs are taken in order.
        visible: ``CUDA_VISIBLE_DEVICES`` as it was when the process started; None: not set.

    Raises:
        ValueError: there are fewer GPUs than processes on this machine.
    """
    place = launched()
    listed = gpu_id if "," in gpu_id or not gpu_id else visible
    if listed is None:
        return str(place.local_rank)
    if not listed:
        return ""
    names = [name.strip() for name in listed.split(",") if name.strip()]
    if place.local_rank >= len(names):
        raise ValueError(
            f"{place} has no GPU: {len(names)} named ({listed!r}), and this is process "
            f"{place.local_rank} of its machine, counted from 0. Start fewer processes, or set "
            f"--gpu_id='' to train on the CPU."
        )
    return names[place.local_rank]
