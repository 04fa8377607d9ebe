"""Tasks worked through by threads that hold up nobody who stops the program."""

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")


def work_through(
    tasks: Sequence[T],
    open_worker: Callable[[], AbstractContextManager[Callable[[T], R]]],
    n_threads: int,
    stop: threading.Event,
) -> Generator[tuple[T, R], None, None]:
    """Yield each task with its result, in the order in which they end.

    The threads are daemons: Ctrl-C does not wait for a server that takes its time.

    Args:
        tasks: what is worked through, each once.
        open_worker: function that each thread enters once; it yields the function of a task.
        n_threads: largest number of threads.
        stop: event after which no further task is begun; it is set at the end.

    Raises:
        Exception: whatever a task raised, at its turn.
    """
    todo: queue.SimpleQueue[T] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[T, R | None, Exception | None]] = queue.SimpleQueue()
    for task in tasks:
        todo.put(task)

    def work() -> None:
        with open_worker() as run, suppress(queue.Empty):
            while not stop.is_set():
                task = todo.get_nowait()
                try:
                    done.put((task, run(task), None))
                except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                    done.put((task, None, error))

    try:
        for _ in range(min(n_threads, len(tasks))):
            threading.Thread(target=work, daemon=True).start()
        for _ in tasks:
            task, result, error = done.get()
            if error is not None:
                raise error
            yield task, cast(R, result)  # a task without an error has its result
    finally:
        stop.set()
