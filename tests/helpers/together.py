"""A program for torchrun: trains models in several processes, after a look at what they share.

Usage: together.py RUNS, a JSON list of {"model": ..., other settings}; prints each record's folder.
"""

import json
import sys

import pytest
import torch

import recbole_llm
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


if __name__ == "__main__":
    with joined():
        check_what_is_shared()
        check_who_does_what()
    for settings in json.loads(sys.argv[1]):
        record = recbole_llm.run(settings.pop("model"), "ml-100k", **settings)
        if is_main():
            print(f"record of {record.model}: {record.folder}")
