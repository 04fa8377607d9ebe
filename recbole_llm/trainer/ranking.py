"""Full ranking: every user's best items, and which of them are hits."""

from typing import NamedTuple

import torch
from torch import Tensor


class Ranking(NamedTuple):
    """The K best items of each evaluated user (or sample), best first.

    Attributes:
        users: (n,) int64 internal user ids.
        items: (n, K) int64 internal item ids.
        scores: (n, K) float32.
        hits: (n, K) bool, whether the item is a positive.
        n_positives: (n,) int64, the user's positives in the evaluated part.
    """

    users: Tensor
    items: Tensor
    scores: Tensor
    hits: Tensor
    n_positives: Tensor


def rank_batch(
    scores: Tensor,
    hidden: tuple[Tensor, Tensor] | None,
    pos_row: Tensor,
    pos_item: Tensor,
    k: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rank one batch: the metric inputs of RecBole's collector without its (B, I) hit matrix.

    Args:
        scores: (B, I) float; overwritten where hidden.
        hidden: rows and items that must not be ranked; the padding item 0 never is.
        pos_row: (nnz,) int64 rows of the positives.
        pos_item: (nnz,) int64 items of the positives; (row, item) pairs are distinct.
        k: length of the lists.

    Returns:
        items (B, k), their scores (B, k), hits (B, k) bool, positives of each row (B,).

    Raises:
        ValueError: a score is NaN, which a top-k would rank first.
    """
    n_rows, n_items = scores.shape
    scores[:, 0] = -torch.inf
    if hidden is not None:
        scores[hidden] = -torch.inf
    top, items = torch.topk(scores, k, dim=-1)
    if torch.isnan(top[:, 0]).any():  # topk puts NaN above every number
        raise ValueError(
            "the model's scores hold NaN: training has diverged. Lower --learning_rate, or set "
            "--clip_grad_norm=\"{'max_norm': 1.0}\"."
        )
    keys = torch.arange(n_rows, device=items.device).unsqueeze(1) * n_items + items
    hits = torch.isin(keys, pos_row * n_items + pos_item)
    return items, top, hits, torch.bincount(pos_row, minlength=n_rows)
