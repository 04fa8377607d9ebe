"""Cross-entropy over a catalogue of items, without a matrix of all targets by all items."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Logits in memory at a time: 16 MiB of float32, which stays in a processor's cache.
_LOGITS = 2**22


def catalogue_cross_entropy(
    query: Tensor,
    table: Tensor,
    bias: Tensor | None,
    target: Tensor,
    n_logits: int = _LOGITS,
) -> Tensor:
    """Return the mean of -log softmax(query @ table.T + bias)[target], a scalar.

    The gradient is taken in the forward pass, a few rows at a time: time O(N C k), memory
    O(n_logits + (N + C) k). It is computed in float32, or in float64 if that is what it is given,
    with or without autocast.

    Args:
        query: (N, k).
        table: (C, k), one row a class.
        bias: (C,), or None for zeros.
        target: (N,) int64 in [0, C).
        n_logits: number of logits in memory at a time, at least those of one row.
    """
    with torch.autocast(query.device.type, enabled=False):
        wide = query.dtype if query.dtype == torch.float64 else torch.float32
        query, table = query.to(wide), table.to(wide)
        bias = table.new_zeros(len(table)) if bias is None else bias.to(wide)
        rows = max(1, n_logits // len(table))
        return _CatalogueCrossEntropy.apply(query, table, bias, target, rows)


class _CatalogueCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, table: Tensor, bias: Tensor, target: Tensor, rows: int
    ) -> Tensor:
        wants_query, wants_table, wants_bias = ctx.needs_input_grad[:3]
        by_query = torch.zeros_like(query) if wants_query else None
        by_table = torch.zeros_like(table) if wants_table else None
        by_bias = torch.zeros_like(bias) if wants_bias else None
        total = query.new_zeros(())
        for begin in range(0, len(query), rows):
            part = slice(begin, begin + rows)
            logits = torch.addmm(bias, query[part], table.T)  # (rows, C)
            place = target[part].unsqueeze(1)
            log_total = logits.logsumexp(dim=1, keepdim=True)
            total += (log_total - logits.gather(1, place)).sum()
            if not (wants_query or wants_table or wants_bias):
                continue
            grad = logits.sub_(log_total).exp_()  # softmax
            grad.scatter_add_(1, place, -torch.ones_like(log_total)).div_(len(query))
            if by_query is not None:
                torch.mm(grad, table, out=by_query[part])
            if by_table is not None:
                by_table.addmm_(grad.T, query[part])
            if by_bias is not None:
                by_bias += grad.sum(dim=0)
        ctx.gradients = by_query, by_table, by_bias
        return total / len(query)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if g is None else g * grad for g in ctx.gradients), None, None
