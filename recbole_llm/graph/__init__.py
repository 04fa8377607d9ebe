"""Graphs as tensors: from index arrays to sparse matrices, and the products over them.

U, I: numbers of users and items, padding id 0 included. N = U + I nodes, users first. Nothing here
knows a dataset or a model, and no N x N dense matrix is built.
"""

from recbole_llm.graph.adjacency import (
    bipartite_norm_adj,
    knn_norm_adj,
    norm_interactions,
    row_norm_matrix,
)
from recbole_llm.graph.hypergraph import Hypergraph, i2i_hypergraph, u2u_hypergraph
from recbole_llm.graph.knn import KnnGraph, knn_graph
from recbole_llm.graph.neighbours import NeighbourTable, edge_priority
from recbole_llm.graph.pattern import EdgePattern
from recbole_llm.graph.refine import cooccurrence_graph, refined_adj, semantic_graph
from recbole_llm.graph.sampling import sample_edges
from recbole_llm.graph.segment import segment_mean, segment_softmax, segment_sum
from recbole_llm.graph.sparse import csr_matrix, spmm, transpose_csr

__all__ = [
    "EdgePattern",
    "Hypergraph",
    "KnnGraph",
    "NeighbourTable",
    "bipartite_norm_adj",
    "cooccurrence_graph",
    "csr_matrix",
    "edge_priority",
    "i2i_hypergraph",
    "knn_graph",
    "knn_norm_adj",
    "norm_interactions",
    "refined_adj",
    "row_norm_matrix",
    "sample_edges",
    "semantic_graph",
    "segment_mean",
    "segment_softmax",
    "segment_sum",
    "spmm",
    "transpose_csr",
    "u2u_hypergraph",
]
