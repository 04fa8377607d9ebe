"""Several processes that train one model: what they do together, and what one does for all.

Outside of ``joined``, and in a run of one process, every function here does what a single process
would. Inside, all processes call the same functions in the same order. Process 0, the main one, is
the only one that takes locks and writes files.
"""

import datetime
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from recbole_llm.launcher import REPORTED_BY_MAIN, Place, check_launcher, launched

T = TypeVar("T")

# How long a process waits for another one that lives: the main one may wait for another run that
# trains the same stage. One that ends closes its connections, which the others notice at once.
_PATIENCE = datetime.timedelta(days=2)
_RESUME = "The same command with --resume continues the run."

_place = Place()
_is_connected = False
_nccl: dist.ProcessGroup | None = None


class ProcessLostError(OSError):
    """Another process of the run has ended before its time; the text says what to do."""


class Share(NamedTuple):
    """The part that one of several processes has in work on numbered rows.

    Attributes:
        number: number of the process, counted from 0.
        n_processes: number of processes.
    """

    number: int
    n_processes: int

    def rows(self, n: int) -> slice:
        """Return the process's rows among n: contiguous, and equally many up to one."""
        size, larger = divmod(n, self.n_processes)
        start = self.number * size + min(self.number, larger)
        return slice(start, start + size + (self.number < larger))


#: The share of a process that does all the work.
WHOLE = Share(0, 1)


def n_processes() -> int:
    """Return the number of processes that train together."""
    return _place.n_processes


def rank() -> int:
    """Return the number of this process, counted from 0."""
    return _place.rank


def is_main() -> bool:
    """Return whether this process is the one that takes locks and writes files."""
    return _place.rank == 0


def own_share() -> Share:
    """Return the share of this process."""
    return Share(_place.rank, _place.n_processes)


@contextmanager
def joined() -> Iterator[None]:
    """Train together with the processes that the launcher started, until the block ends.

    Raises:
        ValueError: the launcher asks for what is not done here.
        ProcessLostError: another process ended meanwhile.
    """
    global _place
    place = launched()
    check_launcher()
    if place.n_processes == 1:
        yield
        return
    with _stopped_by_error():
        _connect(place)
        _place = place
        try:
            yield
            from_main(lambda: None)  # nobody leaves before the main process is done
        finally:
            _place = Place()


def _connect(place: Place) -> None:
    """Connect the processes, once in a program: torch cannot use the same launcher twice.

    Raises:
        ValueError: the program has connected them itself.
    """
    global _is_connected
    if _is_connected:
        return
    if dist.is_initialized():
        raise ValueError(
            "torch.distributed is in use by this program already. Start a run in a program of its "
            "own: `torchrun --nproc-per-node=N -m recbole_llm ...`."
        )
    with _noticing_loss(place):
        dist.init_process_group("gloo", timeout=_PATIENCE)
    _is_connected = True


@contextmanager
def _stopped_by_error() -> Iterator[None]:
    """Turn SIGTERM, by which a launcher ends what a dead process left, into an error."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise ProcessLostError(
            f"{launched()} was told to stop: another process of this run has ended, or the "
            f"launcher was stopped. {_RESUME}"
        )

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _noticing_loss(place: Place | None = None) -> Iterator[None]:
    """Say in one line what torch's errors of a broken connection mean."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ProcessLostError(
            f"{place or _place} has lost another process of this run, which has ended or was "
            f"killed ({reason}). {_RESUME}"
        ) from error


def from_main(function: Callable[[], T]) -> T:
    """Let the main process call a function, and return its result in every process.

    Args:
        function: function without arguments that calls nothing of this module; what it returns or
            raises can be pickled.

    Raises:
        Exception: what the function raised, in every process.
    """
    if n_processes() == 1:
        return function()
    outcome: tuple[Any, Exception | None] = (None, None)
    if is_main():
        try:
            outcome = function(), None
        except Exception as error:
            outcome = None, error
    value, raised = _broadcast(outcome)
    if raised is not None:
        raise _of_main(raised)
    return value


@contextmanager
def main_first() -> Iterator[None]:
    """Let the main process run the block before the others, which then find its files.

    Raises:
        Exception: what the block raised in the main process, in every process.
    """
    if n_processes() == 1:
        yield
        return
    if not is_main():
        _, error = _broadcast(None)
        if error is not None:
            raise _of_main(error)
        yield
        return
    try:
        yield
    except Exception as error:
        _broadcast((None, error))
        raise
    _broadcast((None, None))


def _of_main(error: Exception) -> Exception:
    if not is_main():
        error.add_note(REPORTED_BY_MAIN)
    return error


def _broadcast(value: Any) -> Any:
    """Return the main process's value, which is itself there and a copy elsewhere."""
    box = [value]
    with _noticing_loss():
        dist.broadcast_object_list(box)
    return value if is_main() else box[0]


def same_tensors(tensors: Iterable[Tensor]) -> None:
    """Overwrite dense tensors, the same in all processes, by those of the main process."""
    if n_processes() == 1:
        return
    with _noticing_loss():
        for tensor in tensors:
            dist.broadcast(tensor, 0, group=_group(tensor.device))


def summed(values: Tensor) -> Tensor:
    """Return the sums over all processes of a tensor that each has in the same shape."""
    if n_processes() > 1:
        with _noticing_loss():
            dist.all_reduce(values, group=_group(values.device))
    return values


def gathered_rows(rows: Tensor) -> Tensor:
    """Return the rows (n, ...) of all processes, in the order of their numbers; n may differ."""
    if n_processes() == 1:
        return rows
    lengths = torch.zeros(n_processes(), dtype=torch.int64, device=rows.device)
    lengths[rank()] = len(rows)
    longest = int(summed(lengths).max())
    padded = rows.new_zeros(longest, *rows.shape[1:], dtype=_carrier(rows.dtype))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(n_processes())]
    with _noticing_loss():
        dist.all_gather(parts, padded, group=_group(rows.device))
    kept = [part[:n] for part, n in zip(parts, lengths.tolist(), strict=True)]
    return torch.cat(kept).to(rows.dtype)


def _carrier(kind: torch.dtype) -> torch.dtype:
    return torch.uint8 if kind is torch.bool else kind  # gloo sends no bool


def add_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Set the gradients of all processes to their sum.

    A weight without a gradient in every process keeps none, so that the optimizer leaves it alone,
    as it does in a single process.

    Args:
        parameters: weights, the same in all processes and in the same order.
    """
    if n_processes() == 1:
        return
    by_kind: dict[tuple[torch.dtype, torch.device], list[torch.nn.Parameter]] = {}
    for weight in parameters:
        if weight.requires_grad:
            by_kind.setdefault((weight.dtype, weight.device), []).append(weight)
    for weights in by_kind.values():
        has_gradient = torch.tensor([float(weight.grad is not None) for weight in weights])
        flat = torch.cat(
            [
                torch.zeros_like(weight).flatten() if weight.grad is None else weight.grad.flatten()
                for weight in weights
            ]
        )
        has_gradient = summed(has_gradient)
        sizes = [weight.numel() for weight in weights]
        for weight, has_one, total in zip(
            weights, has_gradient.tolist(), summed(flat).split(sizes), strict=True
        ):
            weight.grad = total.view_as(weight).clone() if has_one else None


def _group(device: torch.device) -> dist.ProcessGroup | None:
    """Return the group that carries tensors of a device: gloo, or NCCL between GPUs."""
    global _nccl
    if device.type != "cuda":
        return None
    if _nccl is None:
        _nccl = dist.new_group(backend="nccl")
    return _nccl
