"""The order of items that are equal: a hash of their tokens."""

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor


def tie_order(tokens: Sequence[object]) -> Tensor:
    """Return each item's place among items of equal score: the order of a hash of their tokens.

    It depends on nothing but the token, so neither popularity, nor the order of a file, nor the
    device decides a tie.

    Args:
        tokens: I item tokens by internal id.

    Returns:
        (I,) int64, a permutation of 0..I-1.
    """
    digests = [blake2b(str(token).encode(), digest_size=16).digest() for token in tokens]
    place = torch.empty(len(digests), dtype=torch.int64)
    place[sorted(range(len(digests)), key=digests.__getitem__)] = torch.arange(len(digests))
    return place
