"""Constant sparse matrices in CSR, and a product with dense matrices that trains fast.

Why CSR and a precomputed transpose: measured on 2 CPU cores with 520 k edges and d = 64, the CSR
product took 9 ms where COO ``torch.sparse.mm`` took 37 ms.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Tensor | np.ndarray


class CsrTensor(Tensor):
    """A sparse CSR tensor that can be deep-copied, so that a module holding one can be too.

    torch (2.13) cannot deep-copy a plain CSR tensor, and RecBole deep-copies every model to count
    its FLOPs. Moves and casts keep this class; dense results are plain tensors.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        memo[id(self)] = self.clone()
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # torch's own way rebuilds a subclass through strides, which CSR does not have.
        parts = (self.crow_indices(), self.col_indices(), self.values(), tuple(self.shape))
        return _from_parts, parts

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
        is_csr = isinstance(result, Tensor) and result.layout is torch.sparse_csr
        return _as_csr_tensor(result) if is_csr else result


def csr_matrix(row: Array, col: Array, value: Array | None, shape: tuple[int, int]) -> Tensor:
    """Build a float32 CSR matrix from index arrays, rows and columns sorted.

    Time O(E log E), memory O(E).

    Args:
        row: (E,) integers in [0, R).
        col: (E,) integers in [0, C).
        value: (E,) numbers; entries given more than once are summed. None for a binary matrix:
            every entry is 1, however often it is given.
        shape: (R, C).

    Returns:
        (R, C) float32 sparse CSR, on the device of ``row``.

    Raises:
        ValueError: the arrays differ in length, are not integers, or lie outside ``shape``.
    """
    rows, cols = _index("row", row, shape[0]), _index("col", col, shape[1])
    if len(rows) != len(cols):
        raise ValueError(
            f"row and col must be equally long, got {len(rows)} and {len(cols)} entries; "
            "pass one pair of ids per entry."
        )
    weight = torch.ones(len(rows), device=rows.device) if value is None else _tensor(value)
    if weight.shape != rows.shape:
        raise ValueError(
            f"value must have shape ({len(rows)},), one number per entry, "
            f"got {tuple(weight.shape)}; pass None for ones."
        )
    coo = torch.sparse_coo_tensor(
        torch.stack([rows, cols]), weight.to(torch.float32), shape, check_invariants=False
    ).coalesce()
    if value is None:
        coo.values().fill_(1.0)  # coalescing has summed repeated entries
    with _beta_notice_off():
        return _compact(coo.to_sparse_csr())


def transpose_csr(matrix: Tensor) -> Tensor:
    """Return the transpose (C, R) of a CSR matrix (R, C), again in CSR, rows sorted."""
    with _beta_notice_off():
        # through COO: CSC, what matrix.t() is, has a beta notice of its own
        return _compact(matrix.to_sparse_coo().t().to_sparse_csr())


def shared_edges(matrices: Sequence[Tensor]) -> Tensor:
    """Return the entries off the diagonal that are stored in every one of several matrices.

    Args:
        matrices: at least one sparse CSR matrix, all of one shape (R, C).

    Returns:
        (2, E) int64, row above column, sorted by row, then by column.
    """
    n_cols = matrices[0].size(1)
    indices = [matrix.to_sparse_coo().indices() for matrix in matrices]
    key, *others = [row * n_cols + col for row, col in indices]  # (E_m,) each, without repetitions
    for other in others:
        key = key[torch.isin(key, other)]
    edges = torch.stack([key // n_cols, key % n_cols])
    return edges[:, edges[0] != edges[1]]


def largest_entries(matrices: Sequence[Tensor]) -> Tensor:
    """Return the sparse matrix of each entry's largest value among those that store the entry.

    Args:
        matrices: at least one sparse CSR matrix, all of one shape (R, C).

    Returns:
        (R, C) sparse CSR, with the entries of all matrices.
    """
    n_cols = matrices[0].size(1)
    parts = [matrix.to_sparse_coo() for matrix in matrices]
    row, col = torch.cat([part.indices() for part in parts], dim=1)
    key, place = torch.unique(row * n_cols + col, return_inverse=True)
    value = torch.cat([part.values() for part in parts])
    largest = value.new_empty(len(key)).scatter_reduce(0, place, value, "amax", include_self=False)
    return csr_matrix(key // n_cols, key % n_cols, largest, (matrices[0].size(0), n_cols))


def spmm(matrix: Tensor, dense: Tensor, transpose: Tensor | None = None) -> Tensor:
    """Multiply a constant CSR matrix by a dense one; differentiable in ``dense`` only.

    No gradient flows to the values of ``matrix``. Under autocast the product is computed in the
    matrix's dtype, because CSR products have no half-precision kernel on the CPU.

    Args:
        matrix: (R, C) sparse CSR.
        dense: (C, d), dtype and device of ``matrix``.
        transpose: (C, R) sparse CSR for the backward pass; ``matrix`` itself if it is symmetric.
            None transposes ``matrix`` anew in every backward pass: correct, but slower.

    Returns:
        (R, d) dense. Time O(nnz * d).

    Raises:
        ValueError: the shapes do not fit together.
    """
    if dense.dim() != 2 or dense.size(0) != matrix.size(1):
        raise ValueError(
            f"dense must have shape ({matrix.size(1)}, d) to be multiplied by a matrix of shape "
            f"{tuple(matrix.shape)}, got {tuple(dense.shape)}."
        )
    if transpose is not None and transpose.shape != matrix.shape[::-1]:
        raise ValueError(
            f"transpose must have shape {tuple(matrix.shape[::-1])}, got {tuple(transpose.shape)}; "
            "pass transpose_csr(matrix)."
        )
    return _Spmm.apply(matrix, dense, transpose)


class _Spmm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, dense: Tensor, transpose: Tensor | None) -> Tensor:
        ctx.matrix, ctx.transpose = matrix, transpose
        device_type = dense.device.type
        if torch.is_autocast_enabled(device_type):
            dense = dense.to(matrix.dtype)
        with torch.autocast(device_type, enabled=False):
            # addmm with beta = 0: mm fills its result with zeros first and copies it afterwards
            return torch.addmm(dense.new_zeros(()), matrix, dense, beta=0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        transpose = transpose_csr(ctx.matrix) if ctx.transpose is None else ctx.transpose
        # spmm, not @: the gradient can then be differentiated again
        return None, spmm(transpose, grads[0], ctx.matrix), None


@contextmanager
def _beta_notice_off() -> Iterator[None]:
    """Silence torch's notice at a process's first CSR tensor; tests cover the parts we use."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        yield


def _compact(matrix: Tensor) -> Tensor:
    """Return a CSR matrix with int32 indices, which MKL takes as they are, if they suffice.

    MKL copies int64 indices at every product: a LightGCN step took 10 % longer.
    """
    if matrix._nnz() >= 2**31 or max(matrix.shape) >= 2**31:
        return _as_csr_tensor(matrix)
    crow, col = matrix.crow_indices().int(), matrix.col_indices().int()
    return _from_parts(crow, col, matrix.values(), tuple(matrix.shape))


def _as_csr_tensor(matrix: Tensor) -> Tensor:
    # not as_subclass: it needs strides
    return Tensor._make_subclass(CsrTensor, matrix)


def _from_parts(crow: Tensor, col: Tensor, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    with _beta_notice_off():
        plain = torch.sparse_csr_tensor(crow, col, value, shape, check_invariants=True)
    return _as_csr_tensor(plain)


def _tensor(array: Array) -> Tensor:
    # np.array copies: torch warns when it shares memory with a read-only array
    return array if isinstance(array, Tensor) else torch.from_numpy(np.array(array))


def _index(name: str, array: Array, size: int) -> Tensor:
    """Return ``array`` as (E,) int64 ids, checked to lie in [0, size)."""
    index = _tensor(array)
    if index.dim() != 1 or index.is_floating_point() or index.dtype is torch.bool:
        raise ValueError(
            f"{name} must be a one-dimensional array of integer ids, "
            f"got shape {tuple(index.shape)} of {index.dtype}."
        )
    index = index.to(torch.int64)
    if len(index) and not 0 <= index.min() <= index.max() < size:
        first = int(((index < 0) | (index >= size)).nonzero()[0])
        raise ValueError(
            f"{name} must hold ids in [0, {size}), got {int(index[first])} at position {first}; "
            "sizes count padding id 0."
        )
    return index
