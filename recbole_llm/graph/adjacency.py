"""Normalised adjacency matrices of interaction graphs."""

import torch
from torch import Tensor

from recbole_llm.graph.knn import KnnGraph
from recbole_llm.graph.segment import segment_sum
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
    block = norm_interactions(user, item, n_users, n_items).to_sparse_coo()
    user_id, item_id = block.indices()  # (E',) each, without repetitions
    return bipartite_matrix(user_id, item_id, block.values(), n_users, n_items)


def bipartite_matrix(
    user: Tensor, item: Tensor, weight: Tensor, n_users: int, n_items: int
) -> Tensor:
    """Return the symmetric matrix (N, N) of a user-item graph, users first, as sparse CSR.

    Args:
        user: (E,) int64 user ids.
        item: (E,) int64 item ids; item i is node U + i.
        weight: (E,) numbers, one an edge; an edge given more than once has their sum.
        n_users: U, padding id 0 included.
        n_items: I, padding id 0 included.
    """
    item_node = item + n_users
    return csr_matrix(
        torch.cat([user, item_node]),
        torch.cat([item_node, user]),
        torch.cat([weight, weight]),
        (n_users + n_items, n_users + n_items),
    )


def norm_interactions(user: Array, item: Array, n_users: int, n_items: int) -> Tensor:
    """Build D_u^-1/2 R D_i^-1/2 of the interactions R, the upper right of ``bipartite_norm_adj``.

    Args:
        user: (E,) user ids; a repeated interaction counts once.
        item: (E,) item ids.
        n_users: U, padding id 0 included.
        n_items: I, padding id 0 included.

    Returns:
        (U, I) float32 sparse CSR.

    Raises:
        ValueError: ``user`` and ``item`` differ in length or hold ids out of range (``row`` in the
            message is ``user``, ``col`` is ``item``).
    """
    matrix = csr_matrix(user, item, None, (n_users, n_items))
    user_degree = matrix.crow_indices().diff()  # (U,)
    item_id = matrix.col_indices().long()
    item_degree = torch.bincount(item_id, minlength=n_items)  # (I,)
    # Taken at the edges only, where both degrees are at least 1: no division by zero.
    degrees = user_degree.repeat_interleave(user_degree) * item_degree[item_id]
    matrix.values().copy_(degrees.double().rsqrt())
    return matrix


def linked_norm_adj(user: Array, item: Array, links: Tensor, n_users: int, n_items: int) -> Tensor:
    """Build D^-1/2 A D^-1/2 of the user-item graph with links between items, D the row sums of A.

    Links are directed: the matrix is symmetric only if they come in both directions.

    Args:
        user: (E,) user ids; a repeated interaction counts once.
        item: (E,) item ids.
        links: (2, E') int64 item ids, an item above the one that it receives from, each pair once.
        n_users: U, padding id 0 included.
        n_items: I, padding id 0 included.

    Returns:
        (N, N) float32 sparse CSR, N = U + I; item i is node U + i.

    Raises:
        ValueError: ``user`` and ``item`` differ in length or hold ids out of range (``row`` in the
            message is ``user``, ``col`` is ``item``).
    """
    interactions = csr_matrix(user, item, None, (n_users, n_items)).to_sparse_coo()
    user_id, item_id = interactions.indices()  # (E'',) each, without repetitions
    source = torch.cat([user_id, item_id + n_users, links[0] + n_users])
    target = torch.cat([item_id + n_users, user_id, links[1] + n_users])
    return symmetric_norm(source, target, torch.ones(len(source)), n_users + n_items)


def user_item_block(norm_adj: Tensor, n_users: int) -> Tensor:
    """Return the rows of users and the columns of items of a user-item adjacency, (U, I).

    Args:
        norm_adj: (N, N) sparse CSR, users first, in whose rows of users only items have entries.
        n_users: U, padding id 0 included.
    """
    row, col = norm_adj.to_sparse_coo().indices()
    is_user = row < n_users
    value = norm_adj.values()[is_user]
    shape = (n_users, norm_adj.size(1) - n_users)
    return csr_matrix(row[is_user], col[is_user] - n_users, value, shape)


def row_norm_matrix(row: Array, col: Array, n_rows: int, n_cols: int) -> Tensor:
    """Build D^-1 A, which averages the columns of each row: rows sum to 1, or are empty.

    Args:
        row: (E,) row ids; a repeated pair counts once.
        col: (E,) column ids.
        n_rows: number R of rows.
        n_cols: number C of columns.

    Returns:
        (R, C) float32 sparse CSR.

    Raises:
        ValueError: ``row`` and ``col`` differ in length or hold ids out of range.
    """
    matrix = csr_matrix(row, col, None, (n_rows, n_cols))
    degree = matrix.crow_indices().diff()  # (R,)
    matrix.values().div_(degree.repeat_interleave(degree))
    return matrix


def knn_norm_adj(graph: KnnGraph, n_nodes: int, *, weighted: bool) -> Tensor:
    """Build D^-1/2 S D^-1/2 of a neighbour graph S, with D the row sums of S.

    S is not symmetric: an item need not be among its neighbours' neighbours.

    Args:
        graph: neighbour graph, such as ``knn_graph`` returns.
        n_nodes: number V of nodes, padding id 0 included.
        weighted: whether edges weigh their similarity, a negative one 0; otherwise each weighs 1.

    Returns:
        (V, V) float32 sparse CSR. Rows without neighbours are empty.
    """
    weight = graph.similarity.clamp(min=0.0) if weighted else torch.ones_like(graph.similarity)
    source, target = graph.edge_index
    return symmetric_norm(source, target, weight, n_nodes)


def symmetric_norm(source: Tensor, target: Tensor, weight: Tensor, n_nodes: int) -> Tensor:
    """Build D^-1/2 S D^-1/2 of a weighted graph S, with D the row sums of S.

    Args:
        source: (E,) int64 row ids; edges given more than once add up.
        target: (E,) int64 column ids.
        weight: (E,) float32 >= 0.
        n_nodes: number V of nodes.

    Returns:
        (V, V) float32 sparse CSR. Rows without edges are empty.

    Raises:
        ValueError: the arrays differ in length or hold ids out of range.
    """
    degree = segment_sum(weight, source, n_nodes)  # (V,)
    scale = degree.rsqrt().masked_fill(degree == 0, 0.0)  # (V,)
    return csr_matrix(source, target, scale[source] * weight * scale[target], (n_nodes, n_nodes))
