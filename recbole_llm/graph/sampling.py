"""Random edges, and random pairs that are no edges."""

import torch
from torch import Tensor, nn

from recbole_llm.graph.sparse import Array, csr_matrix


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


class NegativeItems(nn.Module):
    """Uniform draws from the items that a user has no interaction with, without rejections.

    Of a user's items in ascending order, the free items below the j-th are its id less the padding
    and the j items before it. The r-th free item therefore lies behind as many of the user's items
    as have r or fewer free ones below them, which a search in one sorted array counts.

    Args:
        user: (E,) user ids; a repeated interaction counts once.
        item: (E,) item ids in 1..I - 1.
        n_users: U, padding id 0 included.
        n_items: I, padding id 0 included.
    """

    indptr: Tensor  # (U + 1,) int64
    free_below: Tensor  # (E,) int64, user * I + number of free items below the item, ascending

    def __init__(self, user: Array, item: Array, n_users: int, n_items: int) -> None:
        super().__init__()
        self.n_items = n_items
        matrix = csr_matrix(user, item, None, (n_users, n_items))
        indptr = matrix.crow_indices().long()
        owner = torch.repeat_interleave(indptr.diff())  # (E,)
        place = torch.arange(len(owner)) - indptr[owner]
        free_below = owner * n_items + matrix.col_indices().long() - 1 - place
        self.register_buffer("indptr", indptr, persistent=False)
        self.register_buffer("free_below", free_below, persistent=False)

    def draw(self, user: Tensor, n: int) -> Tensor:
        """Return ``n`` items of each user, drawn with replacement by torch's generator, (B, n).

        A user who has every item gets the last item.

        Args:
            user: (B,) int64 user ids.
            n: number of items a user.
        """
        start = self.indptr[user].unsqueeze(1)  # (B, 1)
        n_free = self.n_items - 1 - (self.indptr[user + 1].unsqueeze(1) - start)
        # float64: float32 does not reach every item of a large catalogue
        share = torch.rand(len(user), n, dtype=torch.float64, device=user.device)
        rank = (share * n_free).long()  # (B, n) in [0, n_free)
        key = user.unsqueeze(1) * self.n_items + rank
        n_before = torch.searchsorted(self.free_below, key, right=True) - start
        return (1 + rank + n_before).clamp(max=self.n_items - 1)
