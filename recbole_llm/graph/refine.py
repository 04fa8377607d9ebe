"""Item-item graphs refined by content thresholds and by shared audiences.

Reference: Y. Dang et al., "MLLMRec: A Preference Reasoning Paradigm with Graph Refinement for
Multimodal Recommendation" (equation numbers below).
Ambiguity: eq. 8 and 9 would make every item its own best neighbour, with a coefficient of 1. As in
the authors' code the item itself is left out; other items with the very same audience, which that
code drops too, stay, as eq. 9 says. Eq. 7 keeps an item's similarity to itself, and so does theirs.
"""

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recbole_llm.graph.adjacency import symmetric_norm
from recbole_llm.graph.knn import KnnGraph, knn_graph
from recbole_llm.graph.sparse import Array


def semantic_graph(
    feature: Tensor, k: int, threshold: float | None, tie_order: Tensor | None = None
) -> KnnGraph:
    """Return each item's ``k`` nearest, itself included, above a threshold (eq. 6, 7).

    Args:
        feature: (I, F) floating point, row 0 padding.
        k: number K_s of neighbours, 1 <= k < I.
        threshold: cosine alpha below which edges are dropped; None keeps all.
        tie_order: (I,) int64 order of items of equal cosine, as ``knn_graph`` takes it.

    Raises:
        ValueError: ``k`` is out of range, or ``feature`` holds NaN or infinity.
    """
    graph = knn_graph(feature, k, include_self=True, tie_order=tie_order)
    if threshold is None:
        return graph
    keep = graph.similarity >= threshold
    return KnnGraph(graph.edge_index[:, keep], graph.similarity[keep], graph.n_copies)


def cooccurrence_graph(
    user: Array,
    item: Array,
    n_users: int,
    n_items: int,
    k: int,
    block: int = 2048,
    tie_order: Tensor | None = None,
) -> KnnGraph:
    """Return each item's ``k`` others with the most similar audience, by Jaccard (eq. 8, 9).

    Time and memory follow the pairs of items that share a user, a block of rows at a time; no
    (I, I) matrix. Items that share no user are no neighbours.

    Args:
        user: (E,) user ids; a repeated interaction counts once.
        item: (E,) item ids.
        n_users: U, padding id 0 included.
        n_items: I, padding id 0 included.
        k: number K_c of neighbours, >= 1.
        block: number of items compared at a time.
        tie_order: (I,) int64 permutation of 0..I-1; of items with equal coefficients, those of the
            lowest number go first. None: the item's id.

    Returns:
        edge_index (2, E') int64 sorted by source, and the coefficients in (0, 1] as similarity.

    Raises:
        ValueError: ``k`` is not positive.
    """
    if k < 1:
        raise ValueError(f"cooccurrence_k must be at least 1, got {k}.")
    user, item = np.asarray(user), np.asarray(item)
    # float32 counts users exactly up to 2^24
    ones = np.ones(len(item), dtype=np.float32)
    audience = sp.csr_matrix((ones, (item, user)), shape=(n_items, n_users))
    audience.data[:] = 1.0  # repeated interactions were summed
    by_user = audience.T.tocsr()
    size = np.diff(audience.indptr)
    place = np.arange(n_items) if tie_order is None else tie_order.numpy()
    source, target, value = [], [], []
    for start in range(0, n_items, block):
        shared = (audience[start : start + block] @ by_user).tocoo()
        row, col = shared.row + start, shared.col
        is_other = row != col
        row, col = row[is_other], col[is_other]
        n_shared = shared.data[is_other].astype(np.float64)
        jaccard = n_shared / (size[row] + size[col] - n_shared)
        order = np.lexsort((place[col], -jaccard, row))
        row, col, jaccard = row[order], col[order], jaccard[order]
        # a row's edges are consecutive, the most similar first: the first k of each are kept
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        is_kept = rank < k
        source.append(row[is_kept])
        target.append(col[is_kept])
        value.append(jaccard[is_kept])
    edges = np.stack([np.concatenate(source), np.concatenate(target)]).astype(np.int64)
    similarity = torch.from_numpy(np.concatenate(value).astype(np.float32))
    return KnnGraph(torch.from_numpy(edges), similarity)


def refined_adj(semantic: KnnGraph, cooccurrence: KnnGraph | None, n_items: int) -> Tensor:
    """Return N^-1/2 (S + C) N^-1/2: 0/1 content edges plus weighted audience edges (eq. 10, 11).

    Args:
        semantic: content edges S; their similarities are not used.
        cooccurrence: audience edges C; None leaves them out.
        n_items: I, padding id 0 included.

    Returns:
        (I, I) float32 sparse CSR.
    """
    edges, weight = semantic.edge_index, torch.ones_like(semantic.similarity)
    if cooccurrence is not None:
        edges = torch.cat([edges, cooccurrence.edge_index.to(edges.device)], dim=1)
        weight = torch.cat([weight, cooccurrence.similarity.to(weight.device)])
    return symmetric_norm(edges[0], edges[1], weight, n_items)
