"""The neighbours of each node, and the drawing of some: the first, or random ones."""

import zlib
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def name_checksums(tokens: NDArray[np.str_]) -> NDArray[np.uint32]:
    """Return a number for each name (n,), by which neighbours are ranked whatever their ids are."""
    return np.array([zlib.crc32(str(token).encode()) for token in tokens], dtype=np.uint32)


def edge_priority(row_key: NDArray[np.integer], col_key: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Mix two keys of each edge into a number that looks random and is always the same.

    The neighbours of lowest priority are then a fair sample that depends on the keys alone, and so
    neither on the nodes' numbers nor on the order of the edges (splitmix64; Steele et al., "Fast
    splittable pseudorandom number generators", OOPSLA 2014).

    Args:
        row_key: (E,) integers >= 0, keys of the edges' row nodes, such as checksums of their names.
        col_key: (E,) integers >= 0, keys of the edges' column nodes.

    Returns:
        (E,) uint64 priorities.
    """
    mixed = row_key.astype(np.uint64)
    for key in (np.zeros_like(mixed), col_key.astype(np.uint64)):
        mixed = mixed ^ key
        mixed = mixed + np.uint64(0x9E3779B97F4A7C15)  # wraps around, as intended
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed


class NeighbourTable(nn.Module):
    """The neighbours of R nodes in compressed rows, each row in the order of its priorities.

    Args:
        row: (E,) node ids in 0..R - 1; an edge given twice counts once.
        col: (E,) neighbour ids >= 1 (0 is padding).
        priority: (E,) uint64 keys that a row's neighbours are sorted by, ascending.
        n_rows: number R of nodes.
    """

    indptr: Tensor  # (R + 1,) int64
    neighbour: Tensor  # (E,) int64, or a single 0 without any edge

    def __init__(
        self,
        row: NDArray[np.integer],
        col: NDArray[np.integer],
        priority: NDArray[np.uint64],
        n_rows: int,
    ) -> None:
        super().__init__()
        row, col = row.astype(np.int64), col.astype(np.int64)
        width = int(col.max(initial=0)) + 1
        first = np.unique(row * width + col, return_index=True)[1]
        row, col, priority = row[first], col[first], priority[first]
        order = np.lexsort([priority, row])
        counts = np.bincount(row, minlength=n_rows)
        indptr = torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]))
        neighbour = torch.from_numpy(col[order] if len(col) else np.zeros(1, dtype=np.int64))
        self.register_buffer("indptr", indptr, persistent=False)
        self.register_buffer("neighbour", neighbour, persistent=False)

    @classmethod
    def both(
        cls,
        row: NDArray[np.integer],
        col: NDArray[np.integer],
        priority: NDArray[np.uint64],
        n_rows: int,
        n_cols: int,
    ) -> tuple[Self, Self]:
        """Return the table of the rows' neighbours and that of the columns'.

        Args:
            row: (E,) node ids in 1..n_rows - 1, as 0 is padding.
            col: (E,) node ids in 1..n_cols - 1.
            priority: (E,) uint64 keys that neighbours are sorted by, ascending, in both tables.
            n_rows: number of row nodes, padding included.
            n_cols: number of column nodes, padding included.
        """
        return cls(row, col, priority, n_rows), cls(col, row, priority, n_cols)

    def draw(self, nodes: Tensor, n: int, *, exclude: Tensor, random: bool) -> Tensor:
        """Draw ``n`` distinct neighbours of each node, or all of them if it has no more than ``n``.

        A random draw takes ``n`` consecutive neighbours from a random start, and continues at the
        row's beginning behind its end: each neighbour is as likely as any other (the one behind an
        excluded one a little more), in O(n) whatever the degree.

        Args:
            nodes: (...) int64 node ids; padding 0 has no neighbours.
            n: number of neighbours, >= 1.
            exclude: ids that broadcast to ``nodes``, a neighbour that is never drawn; 0 for none.
            random: whether the start is drawn by torch's generator; otherwise the row's first ``n``
                are taken.

        Returns:
            (..., n + 1) int64 neighbour ids, at most ``n`` of a row; 0 fills the rest.
        """
        start = self.indptr[nodes].unsqueeze(-1)
        degree = self.indptr[nodes + 1].unsqueeze(-1) - start  # (..., 1)
        column = torch.arange(n + 1, device=nodes.device)
        offset = torch.zeros_like(degree)
        if random:
            offset = (torch.rand(degree.shape, device=nodes.device) * degree).long()
        position = start + (offset + column) % degree.clamp(min=1)  # (..., n + 1)
        drawn = self.neighbour[position.clamp(max=len(self.neighbour) - 1)]
        is_real = (column < degree) & (drawn != exclude.unsqueeze(-1))
        # One more than n was taken, in case the excluded one was among them.
        return drawn.masked_fill(~is_real | (is_real.cumsum(-1) > n), 0)
