"""A program for torchrun: trains models in several processes, after a look at what they share.

Usage: together.py RUNS, a JSON list of {"model": ..., other settings}; prints each record's folder.
"""

import json
import sys
from types import SimpleNamespace

import pytest
import torch

import recbole_llm
from recbole_llm.model.galrec.contrast import KeyQueue
from recbole_llm.model.galrec.galrec import GALRec
from recbole_llm.processes import (
    add_gradients,
    from_main,
    gathered_rows,
    is_main,
    joined,
    main_first,
    rank,
    same_tensors,
    summed,
)


def check_what_is_shared() -> None:
    """Check every function of two joined processes against values worked out by hand."""
    assert gathered_rows(torch.arange(3 - 2 * rank())).tolist() == [0, 1, 2, 0]  # 3 rows and 1
    assert gathered_rows(torch.ones(2 * rank(), 1, dtype=torch.bool)).tolist() == [[True], [True]]
    assert gathered_rows(torch.zeros(0, 4)).shape == (0, 4)
    assert summed(torch.tensor([1.0, rank()])).tolist() == [2.0, 1.0]
    tensor = torch.full((2,), float(rank()))
    same_tensors([tensor])
    assert tensor.tolist() == [0.0, 0.0]

    both, one, none, frozen = (torch.nn.Parameter(torch.zeros(2)) for _ in range(4))
    frozen.requires_grad_(False)
    both.grad = torch.tensor([1.0, 10.0]) * (rank() + 1)
    if rank():
        one.grad = torch.tensor([5.0, 6.0])
    add_gradients([both, one, none, frozen])
    assert both.grad.tolist() == [3.0, 30.0] and one.grad.tolist() == [5.0, 6.0]
    assert none.grad is None and frozen.grad is None


def check_who_does_what() -> None:
    """Check that the main process alone calls a function, and that all get its error."""
    calls = []
    assert from_main(lambda: calls.append(rank()) or "said") == "said"
    assert calls == ([0] if is_main() else [])

    def fail() -> None:
        raise FileNotFoundError(f"said by {rank()}")

    with pytest.raises(FileNotFoundError, match="said by 0"):
        from_main(fail)
    entered = []
    with pytest.raises(FileNotFoundError, match="said by 0"), main_first():
        entered.append(rank())
        fail()
    assert entered == calls


def check_queues() -> None:
    """Check that the keys of both processes reach the queue of each, empty ones included."""
    model = SimpleNamespace(
        key_views=[("user", 0)],
        new_keys=None,
        score_log_scale=torch.zeros(1),
        reader=SimpleNamespace(hidden_size=2),
    )
    queue = KeyQueue(4, 2)
    model._queue = lambda view: queue
    for nodes in ([[], [7]], [[8, 9], [5]]):  # the first process had no row of the first batch
        own = torch.tensor(nodes[rank()], dtype=torch.long)
        if len(own):
            model.new_keys = {("user", 0): torch.ones(len(own), 2)}, {"user": own}
        GALRec.after_backward(model)
    assert queue.nodes.tolist() == [7, 8, 9, 5]


if __name__ == "__main__":
    with joined():
        check_what_is_shared()
        check_who_does_what()
        check_queues()
    for settings in json.loads(sys.argv[1]):
        record = recbole_llm.run(settings.pop("model"), "ml-100k", **settings)
        if is_main():
            print(f"record of {record.model}: {record.folder}")
