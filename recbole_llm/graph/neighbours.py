"""Each node's neighbours, some of which are drawn: the first, or at random."""

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def edge_priority(row_key: NDArray[np.integer], col_key: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Mix two keys of each edge into a number that looks random and is always the same.

    Taking the neighbours of lowest priority is then a fair sample that follows from the keys alone,
    not from how nodes are numbered nor in which order edges come (splitmix64; Steele et al., "Fast
    splittable pseudorandom number generators", OOPSLA 2014).

    Args:
        row_key: (E,) >= 0, the key of each edge's row node, such as a checksum of its name.
        col_key: (E,) >= 0.
    """
    mixed = row_key.astype(np.uint64)
    for key in (np.zeros_like(mixed), col_key.astype(np.uint64)):
        mixed = mixed ^ key
        mixed = mixed + np.uint64(0x9E3779B97F4A7C15)  # wraps around, as meant
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed


class NeighbourTable(nn.Module):
    """The neighbours of R nodes in compressed rows, each row in the order of its priorities.

    Args:
        row: (E,) node ids in 0..R - 1; an edge given twice counts once.
        col: (E,) neighbour ids >= 1 (0 is padding).
        priority: (E,) of each edge, ascending order within a row.
        n_rows: R.
    """

    indptr: Tensor  # (R + 1,) int64
    neighbour: Tensor  # (E,) int64, or a single 0 where there is no edge at all

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
        """Return the table of the rows' neighbours and that of the columns'."""
        return cls(row, col, priority, n_rows), cls(col, row, priority, n_cols)

    def draw(self, nodes: Tensor, n: int, *, exclude: Tensor, random: bool) -> Tensor:
        """Draw up to ``n`` distinct neighbours of each node, all of them where it has no more.

        At random means ``n`` in a row, round the end, from a random place of the node's row: each
        neighbour is as likely as any other (the one behind an excluded one a little more), in O(n)
        whatever the degree.

        Args:
            nodes: (...) int64; padding 0 has no neighbours.
            n: >= 1.
            exclude: broadcast to ``nodes``; a neighbour that is not to be drawn, 0 for none.
            random: from a random place, by torch's generator; else the first of the row.

        Returns:
            (..., n + 1) int64 neighbour ids; 0 where there is none.
        """
        start = self.indptr[nodes].unsqueeze(-1)
        degree = self.indptr[nodes + 1].unsqueeze(-1) - start  # (..., 1)
        column = torch.arange(n + 1, device=nodes.device)
        offset = torch.zeros_like(degree)
        if random:
            offset = (torch.rand(degree.shape, device=nodes.device) * degree).long()
        place = start + (offset + column) % degree.clamp(min=1)  # (..., n + 1)
        found = self.neighbour[place.clamp(max=len(self.neighbour) - 1)]
        real = (column < degree) & (found != exclude.unsqueeze(-1))
        # One more than n was taken, in case the excluded one was among them.
        return found.masked_fill(~real | (real.cumsum(-1) > n), 0)
