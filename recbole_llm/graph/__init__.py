"""Graphs as tensors: from index arrays to sparse matrices, and the products over them.

U, I: numbers of users and items, padding id 0 included. N = U + I nodes, users first. Modules here
take arrays and return tensors, know no dataset and no model, and build no N x N dense matrix.
"""
