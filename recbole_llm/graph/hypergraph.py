"""Hypergraph convolutions that never build the node-by-node matrix.

Reference: X. Guo et al., "HeLLM: Multi-Modal Hypergraph Enhanced LLM Learning for Recommendation",
arXiv:2504.10541, eq. 1-5, with every hyperedge weight W fixed to 1 as the paper does.
The paper only says "laplacian normalization"; the two normalisations here, and the zeroed diagonal
of the user hypergraph, are those of the authors' public code.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recbole_llm.graph.sparse import Array, csr_matrix, spmm, transpose_csr


class Hypergraph(nn.Module):
    """Propagate node embeddings over S = H H^T, normalised, as two sparse products H (H^T x).

    V: nodes, M: hyperedges, H: the incidence matrix, D: the row sums of S. Nodes that share no
    hyperedge with others have empty rows. All buffers are rebuildable and stay out of checkpoints.

    Without the diagonal, a node's own part is subtracted after it was added: expect float32 errors
    of about 1e-7 * |hyperedges of the node|, relative to x.

    Args:
        incidence: (V, M) binary sparse CSR.
        symmetric: whether S is normalised to D^-1/2 S D^-1/2; otherwise to D^-1 S.
        keep_diagonal: whether S keeps its diagonal; otherwise the diagonal is zeroed.
    """

    incidence: Tensor  # sparse (V, M)
    incidence_t: Tensor  # sparse (M, V)
    diagonal: Tensor | None  # (V, 1), subtracted from S
    in_scale: Tensor | None  # (V, 1)
    out_scale: Tensor  # (V, 1)

    def __init__(self, incidence: Tensor, *, symmetric: bool, keep_diagonal: bool) -> None:
        super().__init__()
        transpose = transpose_csr(incidence)
        # float64: row sums of S count paths, and float32 stops counting at 2^24
        ones = torch.ones(incidence.size(0), 1, dtype=torch.float64, device=incidence.device)
        degree = spmm(incidence.double(), spmm(transpose.double(), ones))  # (V, 1)
        # in a binary matrix the squared length of a row is its number of entries
        diagonal = incidence.crow_indices().diff()[:, None]  # (V, 1)
        if not keep_diagonal:
            degree = degree - diagonal
        power = degree.pow(-0.5 if symmetric else -1.0)
        scale = power.masked_fill(degree == 0, 0.0).float()  # (V, 1)
        buffers = {
            "incidence": incidence,
            "incidence_t": transpose,
            "diagonal": None if keep_diagonal else diagonal.float(),
            "in_scale": scale if symmetric else None,
            "out_scale": scale,
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Propagate x (V, d) once and return (V, d). Time O(nnz(H) * d)."""
        if self.in_scale is not None:
            x = self.in_scale * x  # (V, d)
        hyperedge = spmm(self.incidence_t, x, self.incidence)  # (M, d)
        out = spmm(self.incidence, hyperedge, self.incidence_t)  # (V, d)
        if self.diagonal is not None:
            out = out - self.diagonal * x
        return self.out_scale * out


def u2u_hypergraph(user: Array, item: Array, n_users: int, n_items: int) -> Hypergraph:
    """Build the user hypergraph (eq. 1-2): an item is a hyperedge that joins its users.

    S = A A^T counts the items two users share; its diagonal is zeroed and its rows are normalised
    to sum 1, D^-1 S. The row of a user who shares no item with another is empty.

    Args:
        user: (E,) user ids; a repeated interaction counts once.
        item: (E,) item ids.
        n_users: U, padding id 0 included.
        n_items: I, padding id 0 included.

    Returns:
        Module that maps (U, d) to (U, d).

    Raises:
        ValueError: ``user`` and ``item`` differ in length or hold ids out of range (``row`` in the
            message is ``user``, ``col`` is ``item``).
    """
    incidence = csr_matrix(user, item, None, (n_users, n_items))
    return Hypergraph(incidence, symmetric=False, keep_diagonal=False)


def i2i_hypergraph(knn_edges: Sequence[Tensor], n_items: int) -> Hypergraph:
    """Build the item hypergraph (eq. 3-5) from one neighbour graph per modality.

    The incidence matrix is I = [I_1 | ... | I_m], where I_m[i, j] = 1 if j is among the nearest
    neighbours of i in modality m. S = I I^T counts the neighbours two items share; it keeps its
    diagonal and is normalised to D^-1/2 S D^-1/2.

    Args:
        knn_edges: one (2, E_m) int64 edge list per modality, item above neighbour, as in
            ``KnnGraph.edge_index``.
        n_items: I, padding id 0 included.

    Returns:
        Module that maps (I, d) to (I, d).

    Raises:
        ValueError: no edge list is given, or one has another shape or ids out of range.
    """
    if not knn_edges:
        raise ValueError("knn_edges must hold one edge list per modality, got none.")
    row, col = [], []
    for modality, edges in enumerate(knn_edges):
        if edges.dim() != 2 or edges.size(0) != 2:
            raise ValueError(
                f"knn_edges[{modality}] must have shape (2, E), got {tuple(edges.shape)}; "
                "pass KnnGraph.edge_index."
            )
        # checked here: a neighbour out of range would land in the next modality's columns
        if edges.numel() and not 0 <= edges.min() <= edges.max() < n_items:
            raise ValueError(
                f"knn_edges[{modality}] must hold ids in [0, {n_items}), "
                f"got {int(edges.min())} to {int(edges.max())}."
            )
        row.append(edges[0])
        col.append(edges[1] + modality * n_items)
    shape = (n_items, len(knn_edges) * n_items)
    incidence = csr_matrix(torch.cat(row), torch.cat(col), None, shape)
    return Hypergraph(incidence, symmetric=True, keep_diagonal=True)
