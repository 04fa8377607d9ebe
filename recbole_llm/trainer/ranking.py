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

    @classmethod
    def empty(cls, k: int) -> "Ranking":
        """Return the ranking of no user, with lists of length k."""
        items, hits = torch.empty(0, k, dtype=torch.int64), torch.empty(0, k, dtype=torch.bool)
        users = torch.empty(0, dtype=torch.int64)
        return cls(users, items, torch.empty(0, k), hits, users)


def rank_batch(
    scores: Tensor,
    hidden: tuple[Tensor, Tensor] | None,
    pos_row: Tensor,
    pos_item: Tensor,
    k: int,
    place: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rank one batch: the metric inputs of RecBole's collector without its (B, I) hit matrix.

    The ranking is a function of the scores and of ``place`` alone: the list for k is the beginning
    of the list for any larger k.

    The other tensors may be on another device than the scores.

    Args:
        scores: (B, I) float; overwritten where hidden.
        hidden: rows and items that must not be ranked; the padding item 0 never is.
        pos_row: (nnz,) int64 rows of the positives.
        pos_item: (nnz,) int64 items of the positives; (row, item) pairs are distinct.
        k: length of the lists.
        place: (I,) int64 order of items of equal score, from ``tie_order``.

    Returns:
        items (B, k), their scores (B, k), hits (B, k) bool, positives of each row (B,).

    Raises:
        ValueError: a score is NaN or infinite, which a top-k would rank first.
    """
    n_rows, n_items = scores.shape
    pos_row, pos_item, place = (each.to(scores.device) for each in (pos_row, pos_item, place))
    scores[:, 0] = -torch.inf
    if hidden is not None:
        scores[hidden[0].to(scores.device), hidden[1].to(scores.device)] = -torch.inf
    top, items = torch.topk(scores, min(k + 1, n_items), dim=-1)  # one more, to see a tie
    if not (top[:, 0] < torch.inf).all():  # topk puts NaN above every number
        raise ValueError(
            "the model's scores hold NaN or infinity: training has diverged. Lower "
            "--learning_rate, or set --clip_grad_norm=\"{'max_norm': 1.0}\"."
        )
    if k < n_items:
        is_cut = (top[:, k] == top[:, k - 1]) & torch.isfinite(top[:, k])
        top, items = top[:, :k].contiguous(), items[:, :k].contiguous()
        _choose_among_equals(scores, top, items, place, is_cut.nonzero().flatten())
    by_place = place[items].argsort(dim=-1)
    items, top = items.gather(1, by_place), top.gather(1, by_place)
    by_score = top.argsort(dim=-1, descending=True, stable=True)
    items, top = items.gather(1, by_score), top.gather(1, by_score)
    keys = torch.arange(n_rows, device=items.device).unsqueeze(1) * n_items + items
    hits = torch.isin(keys, pos_row * n_items + pos_item)
    return items, top, hits, torch.bincount(pos_row, minlength=n_rows)


def _choose_among_equals(
    scores: Tensor, top: Tensor, items: Tensor, place: Tensor, rows: Tensor
) -> None:
    """Where more items than fit have the list's last score, list those of the lowest place.

    Args:
        scores: (B, I).
        top: (B, k) best scores, descending.
        items: (B, k) their items; changed in place.
        place: (I,).
        rows: (R,) rows whose list ends among equal scores.
    """
    if not rows.numel():
        return
    last = top[rows, -1:]  # (R, 1)
    n_listed = (top[rows] == last).sum(dim=1)
    width = int(n_listed.max())
    beyond = scores.size(1)  # behind every place
    candidates = torch.where(scores[rows] == last, place, beyond)  # (R, I)
    chosen = candidates.topk(width, largest=False, sorted=True).indices  # (R, width)
    number = torch.arange(width, device=items.device)
    column = items.size(1) - n_listed.unsqueeze(1) + number  # equals are the last of the list
    row, which = (number < n_listed.unsqueeze(1)).nonzero(as_tuple=True)
    items[rows[row], column[row, which]] = chosen[row, which]
