"""Propagation over user-item graphs, and the sparse operators that models share."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.data.tie_order import tie_order
from recbole_llm.graph.adjacency import bipartite_norm_adj, norm_interactions, row_norm_matrix
from recbole_llm.graph.common_items import user_user_graph
from recbole_llm.graph.sampling import sample_edges
from recbole_llm.graph.segment import segment_softmax
from recbole_llm.graph.sparse import csr_matrix, spmm, transpose_csr


def rows(table: Tensor, index: Tensor) -> Tensor:
    """Pick rows of a table: ``table[index]`` with the faster backward of an embedding."""
    return F.embedding(index, table)


def triplet_rows(
    nodes: Tensor, n_users: int, user: Tensor, pos: Tensor, neg: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Pick the rows (B, d) of users, positive and negative items from a table of all nodes.

    Args:
        nodes: (N, d), users first.
        n_users: U, padding id 0 included.
        user: (B,) user ids.
        pos: (B,) item ids.
        neg: (B,) item ids.
    """
    return rows(nodes, user), rows(nodes, pos + n_users), rows(nodes, neg + n_users)


def without_padding(nodes: Tensor, n_users: int) -> Tensor:
    """Return a table of all nodes (N, d), users first, without the two padding rows, (N - 2, d)."""
    return torch.cat([nodes[1:n_users], nodes[n_users + 1 :]])


def propagate_mean(
    norm_adj: Tensor, hidden: Tensor, n_layers: int, transpose: Tensor | None = None
) -> Tensor:
    """Return the mean of layers 0..L of LightGCN's propagation over an adjacency.

    He et al., "LightGCN", SIGIR 2020, arXiv:2002.02126, eq. 7 and 8 with alpha_k = 1 / (K + 1).

    Args:
        norm_adj: (N, N) sparse CSR.
        hidden: (N, d) layer 0.
        n_layers: number L of layers, >= 0.
        transpose: (N, N) sparse CSR, the transpose; None for a symmetric adjacency.
    """
    total = hidden
    for _ in range(n_layers):
        hidden = spmm(norm_adj, hidden, norm_adj if transpose is None else transpose)
        total = total + hidden
    return total / (n_layers + 1)


class Operator(nn.Module):
    """A constant sparse matrix (R, C) as a layer: ``operator(x)`` is the product with x (C, d).

    Args:
        matrix: (R, C) sparse CSR.
        symmetric: whether the matrix is its own transpose.
    """

    matrix: Tensor
    transposed: Tensor

    def __init__(self, matrix: Tensor, symmetric: bool = False) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix, persistent=False)
        transposed = matrix if symmetric else transpose_csr(matrix)
        self.register_buffer("transposed", transposed, persistent=False)

    def forward(self, dense: Tensor) -> Tensor:
        """Return (R, d)."""
        return spmm(self.matrix, dense, self.transposed)


def training_adjacency(dataset: MultimodalDataset) -> Tensor:
    """Return D^-1/2 A D^-1/2 (N, N) of the interactions of ``dataset``, the training part."""
    edges = dataset.inter_matrix(form="coo")
    return bipartite_norm_adj(edges.row, edges.col, dataset.user_num, dataset.item_num)


def training_row_adjacency(dataset: MultimodalDataset) -> Tensor:
    """Return D^-1 (A + I) (N, N) of the interactions of ``dataset``, the training part."""
    edges = dataset.inter_matrix(form="coo")
    item = edges.col + dataset.user_num
    n_nodes = dataset.user_num + dataset.item_num
    itself = np.arange(n_nodes)
    row = np.concatenate([edges.row, item, itself])
    col = np.concatenate([item, edges.row, itself])
    return row_norm_matrix(row, col, n_nodes, n_nodes)


class EdgeSampler(nn.Module):
    """Training interactions to draw from, those of popular users and items less often.

    An interaction's weight is 1 / sqrt(d_u d_i), with the numbers d of training interactions.
    FREEDOM (arXiv:2211.06924, section 3.2) and PGL draw a graph of them each epoch.

    Args:
        dataset: training part.
    """

    edge_index: Tensor  # (2, E) int64
    edge_weight: Tensor  # (E,)

    def __init__(self, dataset: MultimodalDataset) -> None:
        super().__init__()
        self.shape = dataset.user_num, dataset.item_num
        edges = dataset.inter_matrix(form="coo")
        block = norm_interactions(edges.row, edges.col, *self.shape).to_sparse_coo()
        self.register_buffer("edge_index", block.indices(), persistent=False)
        self.register_buffer("edge_weight", block.values(), persistent=False)

    def draw(self, dropout: float) -> Tensor:
        """Return D^-1/2 A D^-1/2 (N, N) of those that are left without a share ``dropout``."""
        n_kept = int(len(self.edge_weight) * (1.0 - dropout))
        user, item = self.edge_index[:, sample_edges(self.edge_weight, n_kept)]
        return bipartite_norm_adj(user, item, *self.shape)


def user_mean_matrix(dataset: MultimodalDataset) -> Tensor:
    """Return D_u^-1 R (U, I) of ``dataset``, the training part: the mean over a user's items."""
    edges = dataset.inter_matrix(form="coo")
    return row_norm_matrix(edges.row, edges.col, dataset.user_num, dataset.item_num)


def neighbour_mean(dataset: MultimodalDataset) -> Operator:
    """Return D^-1 A (N, N) of ``dataset``, the training part, as a layer: means over neighbours."""
    edges, n_users = dataset.inter_matrix(form="coo"), dataset.user_num
    item, n_nodes = edges.col + n_users, n_users + dataset.item_num
    row, col = np.concatenate([edges.row, item]), np.concatenate([item, edges.row])
    return Operator(row_norm_matrix(row, col, n_nodes, n_nodes))


def interaction_operator(dataset: MultimodalDataset) -> Operator:
    """Return the binary interactions R (U, I) of ``dataset``, the training part, as a layer."""
    edges = dataset.inter_matrix(form="coo")
    return Operator(csr_matrix(edges.row, edges.col, None, (dataset.user_num, dataset.item_num)))


def user_neighbour_operator(dataset: MultimodalDataset, k: int) -> Operator:
    """Return the weighted mean over each user's neighbours (U, U) as a layer.

    A user's neighbours are the ``k`` others with the most training items in common; their weights
    are a softmax of the numbers of common items. Of users with equally many, a hash of their tokens
    decides. DualGNN, DRAGON and COHESION have this layer. Their public codes repeat neighbours of
    users who have fewer than ``k``; here they have the neighbours that exist, or an empty row.

    Args:
        dataset: training part.
        k: number of neighbours, >= 1.

    Raises:
        ValueError: ``k`` is not positive.
    """
    edges, n_users = dataset.inter_matrix(form="coo"), dataset.user_num
    place = tie_order(dataset.field2id_token[dataset.uid_field])
    graph = user_user_graph(edges.row, edges.col, n_users, dataset.item_num, k, place)
    source, target = graph.edge_index
    weight = segment_softmax(graph.n_common, source, n_users)
    return Operator(csr_matrix(source, target, weight, (n_users, n_users)))
