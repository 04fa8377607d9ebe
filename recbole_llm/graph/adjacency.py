"""Normalised adjacency matrices of interaction graphs."""

import torch
from torch import Tensor

from recbole_llm.graph.sparse import Array, csr_matrix


def bipartite_norm_adj(user: Array, item: Array, n_users: int, n_items: int) -> Tensor:
    """Build D^-1/2 A D^-1/2 of the user-item graph, users first (LightGCN's propagation matrix).

    The matrix is symmetric, so ``spmm(norm_adj, x, norm_adj)`` needs no transpose. A user or item
    without interactions has an empty row.

    Args:
        user: (E,) user ids; a repeated interaction counts once.
        item: (E,) item ids.
        n_users: U, padding id 0 included.
        n_items: I, padding id 0 included.

    Returns:
        (N, N) float32 sparse CSR, N = U + I; item i is node U + i.

    Raises:
        ValueError: ``user`` and ``item`` differ in length or hold ids out of range (``row`` in the
            message is ``user``, ``col`` is ``item``).
    """
    edges = csr_matrix(user, item, None, (n_users, n_items)).to_sparse_coo()
    user_id, item_id = edges.indices()  # (E',) each, without repetitions
    user_degree = torch.bincount(user_id, minlength=n_users)  # (U,)
    item_degree = torch.bincount(item_id, minlength=n_items)  # (I,)
    # Taken at the edges only, where both degrees are at least 1: no division by zero.
    weight = (user_degree[user_id] * item_degree[item_id]).double().rsqrt()  # (E',)
    item_node = item_id + n_users
    return csr_matrix(
        torch.cat([user_id, item_node]),
        torch.cat([item_node, user_id]),
        torch.cat([weight, weight]),
        (n_users + n_items, n_users + n_items),
    )


def row_norm_matrix(row: Array, col: Array, n_rows: int, n_cols: int) -> Tensor:
    """Build D^-1 A, which averages the columns of each row: rows sum to 1, or are empty.

    Args:
        row: (E,) row ids; a repeated pair counts once.
        col: (E,) column ids.
        n_rows: R.
        n_cols: C.

    Returns:
        (R, C) float32 sparse CSR.

    Raises:
        ValueError: ``row`` and ``col`` differ in length or hold ids out of range.
    """
    matrix = csr_matrix(row, col, None, (n_rows, n_cols))
    degree = matrix.crow_indices().diff()  # (R,)
    matrix.values().div_(degree.repeat_interleave(degree))
    return matrix
