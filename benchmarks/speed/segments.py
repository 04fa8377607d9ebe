"""SRGFormer's operations on segments of edges: native torch against torch-scatter's kernels.

Needs the extra ``scatter``. Each operation runs forward and backward over generated edges, sorted
by row as ``EdgePattern`` holds them; a node has ten of them on average.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from unittest import mock

import torch
from common import Report, alternate, markdown, parse_arguments, show_seconds, summary
from torch import Tensor

from recbole_llm.graph import segment
from recbole_llm.graph.segment import segment_softmax, segment_sum
from recbole_llm.graph.sparse import csr_matrix
from recbole_llm.model.srgformer import EdgeAttention

DIM, N_HEADS = 64, 4
EDGES_A_NODE = 10
Operation = Callable[[], tuple[Tensor, Tensor]]  # gives its output and its gradient
SIDES = ("native torch", "torch-scatter")


def main() -> None:
    arguments = parse_arguments(__doc__, repeats=5, edges=[100_000, 1_000_000, 3_000_000])
    report = Report("segments", arguments, "native torch")
    report.content["versions"]["torch-scatter"] = _scatter_version()
    for n_edges in arguments.edges:
        for what, operation in operations(n_edges).items():
            benchmark(report, n_edges, what, operation, arguments.repeats)
    report.finish(table(report.content["rows"]))


def _scatter_version() -> str:
    try:
        import torch_scatter
    except ModuleNotFoundError:
        raise SystemExit("torch-scatter is not installed: see the extra `scatter`.") from None
    return torch_scatter.__version__


def operations(n_edges: int) -> dict[str, Operation]:
    """Return each operation by name."""
    generator = torch.Generator().manual_seed(0)
    n_nodes = n_edges // EDGES_A_NODE
    row, col = torch.randint(n_nodes, (2, n_edges), generator=generator)
    layer = EdgeAttention(csr_matrix(row, col, None, (n_nodes, n_nodes)), DIM, N_HEADS)
    row = layer.edges.row  # sorted; a few edges fewer, as repeated ones count once
    score = torch.randn(len(row), N_HEADS, generator=generator, requires_grad=True)
    weight = torch.rand(len(row), generator=generator, requires_grad=True)
    hidden = torch.randn(n_nodes, DIM, generator=generator, requires_grad=True)

    def both_ways(function: Callable[[], Tensor], source: Tensor) -> Operation:
        grad = torch.randn(function().shape, generator=generator)

        def run() -> tuple[Tensor, Tensor]:
            output = function()
            return output.detach(), torch.autograd.grad(output, source, grad)[0]

        return run

    return {
        "edge softmax, 4 heads": both_ways(lambda: segment_softmax(score, row, n_nodes), score),
        "sum of edge weights": both_ways(lambda: segment_sum(weight, row, n_nodes), weight),
        "whole edge attention, d = 64": both_ways(lambda: layer(hidden), hidden),
    }


@contextmanager
def without_scatter() -> Iterator[None]:
    """Use native torch, as where torch-scatter is not installed."""
    with mock.patch.object(segment, "_torch_scatter", lambda: None):
        yield


def benchmark(
    report: Report,
    n_edges: int,
    what: str,
    operation: Operation,
    repeats: int,
) -> None:
    """Check that both sides agree, time them, and add a row."""

    def native() -> tuple[Tensor, Tensor]:
        with without_scatter():
            return operation()

    label = f"{n_edges:,} edges, {what}"
    for name, a, b in zip(("output", "gradient"), native(), operation(), strict=True):
        scale = float(a.abs().max())
        report.check(f"{label}: difference of the {name}", float((a - b).abs().max()) / scale, 1e-4)
    start = time.process_time()
    operation()
    # enough runs for 0.2 s, as the clock that times them has steps of 10 ms
    n_runs = math.ceil(0.2 / (time.process_time() - start))
    sides = {
        name: partial(run_often, side, n_runs)
        for name, side in zip(SIDES, (native, operation), strict=True)
    }
    times = alternate(sides, repeats, dict.fromkeys(SIDES, 1 / n_runs))
    cpu = {name: summary(times[name].cpu) for name in SIDES}
    ratio = statistics.median(
        a / b for a, b in zip(times[SIDES[0]].cpu, times[SIDES[1]].cpu, strict=True)
    )
    report.add(edges=n_edges, what=what, cpu_s=cpu, cpu_ratio=ratio)


def run_often(operation: Operation, n_runs: int) -> None:
    for _ in range(n_runs):
        operation()


def table(rows: list[dict]) -> str:
    """Return the Markdown table of all rows."""
    head = ["edges", "what", *(f"{name}, CPU s" for name in SIDES), "ratio"]
    lines = [
        [
            f"{row['edges']:,}",
            row["what"],
            *(show_seconds(row["cpu_s"][name]) for name in SIDES),
            f"**{row['cpu_ratio']:.2f}**",
        ]
        for row in rows
    ]
    return markdown(head, lines)


if __name__ == "__main__":
    main()
