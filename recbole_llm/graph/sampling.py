"""Random subgraphs."""

import torch
from torch import Tensor


def sample_edges(weight: Tensor, n_kept: int) -> Tensor:
    """Draw edges without replacement, each draw in proportion to the weights of those left.

    The edges of the ``n_kept`` smallest Exp(1) / weight are such a draw (Efraimidis and Spirakis,
    "Weighted random sampling with a reservoir", 2006). Unlike ``torch.multinomial`` it takes more
    than 2^24 edges. Time O(E log E).

    Args:
        weight: (E,) floating point, > 0.
        n_kept: number of edges to draw, 0 <= n_kept <= E.

    Returns:
        (n_kept,) int64 indices into ``weight``, ascending; drawn by torch's generator.
    """
    arrival = torch.empty_like(weight).exponential_() / weight
    return arrival.topk(n_kept, largest=False).indices.sort().values
