"""Sparse matrices whose values are trained: products and dot products at a fixed set of edges.

Why not gather and scatter: at 237 k edges and d = 64, one dot product an edge took 191 ms by
gathering both ends, 24 ms by ``sampled_addmm`` (one CPU thread), which makes no (E, d) copies.
"""

from typing import Any

import torch
from torch import Tensor, nn

from recbole_llm.graph.segment import segment_softmax
from recbole_llm.graph.sparse import Array, csr_matrix, transpose_csr


class EdgePattern(nn.Module):
    """The positions of a sparse (R, C) matrix's entries, sorted by row, then by column.

    All buffers can be rebuilt and stay out of checkpoints. Time and memory of every method are
    linear in E.

    Args:
        row: (E,) integers in [0, R); a repeated edge counts once.
        col: (E,) integers in [0, C).
        shape: (R, C).

    Attributes:
        row: (E,) int64 row of each edge, in the pattern's own order.
        col: (E,) int64 column of each edge.

    Raises:
        ValueError: the arrays differ in length, are not integers, or lie outside ``shape``.
    """

    row: Tensor
    col: Tensor
    crow: Tensor  # (R + 1,) where each row starts
    crow_t: Tensor  # (C + 1,) the same of the transpose
    order_t: Tensor  # (E,) the edge that each entry of the transpose is

    def __init__(self, row: Array, col: Array, shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape = shape
        matrix = csr_matrix(row, col, None, shape)
        n_edges = matrix.values().numel()
        # float64 numbers the edges exactly, and the transpose carries the numbers along
        numbers = torch.arange(n_edges, dtype=torch.float64, device=matrix.device)
        numbered = _csr(matrix.crow_indices(), matrix.col_indices(), numbers, shape)
        transpose = transpose_csr(numbered)
        degree = matrix.crow_indices().diff()
        buffers = {
            "crow": matrix.crow_indices(),
            "row": torch.repeat_interleave(degree).long(),
            "col": matrix.col_indices().long(),
            "crow_t": transpose.crow_indices(),
            "order_t": transpose.values().long(),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    def __len__(self) -> int:
        """Return E."""
        return len(self.row)

    def dot(self, left: Tensor, right: Tensor) -> Tensor:
        """Return <left[row], right[col]> of every edge, (E,); differentiable in both.

        Args:
            left: (R, d) floating point.
            right: (C, d) floating point.
        """
        with torch.autocast(left.device.type, enabled=False):
            return _EdgeDot.apply(self, _full(left), _full(right))

    def matmul(self, value: Tensor, dense: Tensor) -> Tensor:
        """Return the matrix with these values times ``dense``, (R, d); differentiable in both.

        Args:
            value: (E,) floating point, in the pattern's order.
            dense: (C, d) floating point.
        """
        with torch.autocast(dense.device.type, enabled=False):
            return _PatternMatmul.apply(self, _full(value), _full(dense))

    def softmax(self, score: Tensor) -> Tensor:
        """Turn scores (E,) or (E, heads) into weights that sum to 1 in each row."""
        return segment_softmax(score, self.row, self.shape[0])

    def matrix(self, value: Tensor) -> Tensor:
        """Return the (R, C) CSR matrix with these values (E,); constant, no gradient flows."""
        return _csr(self.crow, self.col.to(self.crow.dtype), value, self.shape)

    def transpose(self, value: Tensor) -> Tensor:
        """Return the transpose (C, R) of ``matrix(value)``."""
        col = self.row[self.order_t].to(self.crow.dtype)
        return _csr(self.crow_t, col, value[self.order_t], self.shape[::-1])


class _EdgeDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pattern: EdgePattern, left: Tensor, right: Tensor) -> Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(left, right)
        return _sampled_dot(pattern, left, right)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        left, right = ctx.saved_tensors
        return None, _mm(ctx.pattern.matrix(grad), right), _mm(ctx.pattern.transpose(grad), left)


class _PatternMatmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pattern: EdgePattern, value: Tensor, dense: Tensor) -> Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(value, dense)
        return _mm(pattern.matrix(value), dense)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        value, dense = ctx.saved_tensors
        by_value = _sampled_dot(ctx.pattern, grad, dense)
        return None, by_value, _mm(ctx.pattern.transpose(value), grad)


def _full(tensor: Tensor) -> Tensor:
    """Return half precision as float32: sparse products have no half-precision kernel on a CPU."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _sampled_dot(pattern: EdgePattern, left: Tensor, right: Tensor) -> Tensor:
    entries = pattern.matrix(left.new_zeros(len(pattern)))
    return torch.sparse.sampled_addmm(entries, left.contiguous(), right.T, beta=0.0).values()


def _mm(matrix: Tensor, dense: Tensor) -> Tensor:
    # addmm with beta = 0: see spmm
    return torch.addmm(dense.new_zeros(()), matrix, dense.contiguous(), beta=0)


def _csr(crow: Tensor, col: Tensor, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.sparse_csr_tensor(crow, col, value.contiguous(), shape, check_invariants=False)
