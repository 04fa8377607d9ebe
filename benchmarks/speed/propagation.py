"""One LightGCN layer, forward and backward: CSR ``spmm`` against COO ``torch.sparse.mm``."""

from pathlib import Path

import torch
from common import (
    Report,
    alternate,
    data_settings,
    make_config,
    make_split,
    parse_arguments,
    scratch,
)
from scipy.sparse import coo_matrix
from torch import Tensor

from recbole_llm.graph.adjacency import bipartite_norm_adj
from recbole_llm.graph.sparse import spmm

DIM = 64


def main() -> None:
    arguments = parse_arguments(__doc__, repeats=25)
    report = Report("propagation", arguments)
    with scratch() as folder:
        for label, settings in data_settings(arguments, Path(folder)):
            split, size = make_split(make_config("LightGCN", settings))
            report.data(label, size)
            benchmark(report, label, split.train.inter_matrix(form="coo"), arguments.repeats)
    report.finish()


def benchmark(report: Report, label: str, edges: coo_matrix, repeats: int) -> None:
    csr = bipartite_norm_adj(edges.row, edges.col, *edges.shape)  # (N, N)
    coo = csr.to_sparse_coo().coalesce()
    generator = torch.Generator().manual_seed(0)
    x, grad = torch.randn(2, csr.size(0), DIM, generator=generator)  # (N, d) each
    x.requires_grad_()

    def ours() -> tuple[Tensor, Tensor]:
        out = spmm(csr, x, csr)
        return out.detach(), torch.autograd.grad(out, x, grad)[0]

    def theirs() -> tuple[Tensor, Tensor]:
        out = torch.sparse.mm(coo, x)
        return out.detach(), torch.autograd.grad(out, x, grad)[0]

    for name, a, b in zip(("output", "gradient"), ours(), theirs(), strict=True):
        report.check(f"{label}: largest difference of the {name}", float((a - b).abs().max()), 1e-5)
    times = alternate({"theirs": theirs, "ours": ours}, repeats)
    what = f"layer, {csr.values().numel():,} entries, d = {DIM}"
    report.compare(label, what, times["theirs"], times["ours"])


if __name__ == "__main__":
    main()
