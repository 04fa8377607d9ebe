"""Processes of a sweep on one machine: their start, their end, and the end of their parent."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any


def interruptible(call: Callable[[], None]) -> None:
    """Let SIGTERM end a worker as Ctrl-C does, which hands its trial back."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        call()
    finally:
        signal.signal(signal.SIGTERM, before)


def stop_with_parent() -> None:
    """Send SIGTERM to this process when the process that started it is gone, however it ended.

    A parent that is killed cannot stop its workers. Without this they would run on unseen.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        print("the sweep was killed: its worker stops, and hands its trial back", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def run_processes(n: int, target: Callable[..., None], arguments: tuple[Any, ...]) -> list[int]:
    """Run a function in several processes, and wait for them.

    The processes are stopped when this one is interrupted.

    Args:
        n: number of processes.
        target: function of a module, which each process imports anew.
        arguments: arguments of the function.

    Returns:
        The exit code of each process, negative for a signal.
    """
    context = multiprocessing.get_context("spawn")  # torch and CUDA do not survive a fork
    processes = [context.Process(target=target, args=arguments) for _ in range(n)]
    for process in processes:
        process.start()
    try:
        interruptible(lambda: _join(processes))
    except KeyboardInterrupt:
        for process in processes:
            if process.is_alive():
                process.terminate()
        _join(processes)
        raise
    return [process.exitcode or 0 for process in processes]


def _join(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.join()
