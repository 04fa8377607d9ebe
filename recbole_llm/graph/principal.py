"""The principal part of a user-item graph: a few singular vectors, large entries only."""

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import svds
from torch import Tensor

from recbole_llm.graph.adjacency import bipartite_matrix
from recbole_llm.graph.sparse import Array

_BLOCK = 1024


def principal_adj(
    user: Array,
    item: Array,
    weight: Array,
    n_users: int,
    n_items: int,
    rank: int,
    threshold: float = 1e-3,
) -> Tensor:
    """Return PGL's principal subgraph of a user-item graph (Yu et al., AAAI 2025, "global").

    With the singular values s_1 >= .. >= s_r of the interactions' matrix R^ and q = r / 4, it is
    the sum over k <= q of s_k s_(r - q + k) u_k v_k^T, without entries below the threshold. The
    authors decompose the (N, N) matrix, in which every singular value of R^ comes twice. Vectors of
    equal values, such as those of a graph in several parts, are not unique; the iteration starts
    from a fixed vector. Time O(U I q), memory linear in the entries that are left.

    Args:
        user: (E,) user ids.
        item: (E,) item ids.
        weight: (E,) entries of R^.
        n_users: U, padding id 0 included.
        n_items: I, padding id 0 included.
        rank: number r of singular values, at most min(U, I) - 1 of which are taken.
        threshold: least magnitude of an entry.

    Returns:
        (N, N) float32 sparse CSR, symmetric, N = U + I.

    Raises:
        ValueError: ``rank`` is less than 4.
    """
    if rank < 4:
        raise ValueError(f"the principal subgraph needs a rank of at least 4, got {rank}.")
    users, items, values = (np.asarray(x) for x in (user, item, weight))
    matrix = sp.csr_matrix((values.astype(np.float64), (users, items)), shape=(n_users, n_items))
    rank = min(rank, min(matrix.shape) - 1)
    left, value, right = svds(matrix, rank, v0=np.ones(min(matrix.shape)))
    order = np.argsort(-value)
    left, value, right = left[:, order], value[order], right[order]
    top = max(rank // 4, 1)
    left = left[:, :top] * (value[:top] * value[rank - top :])  # (U, q)
    rows, cols, kept = [], [], []
    for start in range(0, n_users, _BLOCK):
        block = left[start : start + _BLOCK] @ right[:top]  # (B, I)
        row, col = np.nonzero(np.abs(block) >= threshold)
        rows.append(row + start)
        cols.append(col)
        kept.append(block[row, col])
    parts = [torch.from_numpy(np.concatenate(x)) for x in (rows, cols, kept)]
    return bipartite_matrix(parts[0], parts[1], parts[2], n_users, n_items)
