"""Losses that two or more models share."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def bpr_loss(pos_score: Tensor, neg_score: Tensor) -> Tensor:
    """Return the mean Bayesian personalised ranking loss (Rendle et al., 2009).

    Args:
        pos_score: (B,) scores of observed items.
        neg_score: (B,) scores of unobserved items.
    """
    return -F.logsigmoid(pos_score - neg_score).mean()


def l2_loss(*rows: Tensor) -> Tensor:
    """Return half the squared norms of the rows a batch uses, divided by the batch size.

    Args:
        rows: tables (B, d) of the same B; the widths d may differ.
    """
    return sum((row.square().sum() for row in rows), torch.zeros(())) / (2 * rows[0].size(0))


def mean_square(table: Tensor) -> Tensor:
    """Return the mean of the squared numbers of a table (B, d), an L2 term that no size changes."""
    return table.square().mean()


def ranking_loss(user_e: Tensor, pos_e: Tensor, neg_e: Tensor, reg_weight: float) -> Tensor:
    """Return BPR of inner products plus L2 of the same rows, a scalar averaged over the batch.

    Args:
        user_e: (B, d) embeddings of users.
        pos_e: (B, d) embeddings of observed items.
        neg_e: (B, d) embeddings of unobserved items.
        reg_weight: weight of ``l2_loss``, >= 0.
    """
    loss = bpr_loss((user_e * pos_e).sum(-1), (user_e * neg_e).sum(-1))
    return loss + reg_weight * l2_loss(user_e, pos_e, neg_e)


def info_nce(anchor: Tensor, positive: Tensor, candidates: Tensor, temperature: float) -> Tensor:
    """Return the mean of -log(exp(s(a, p)) / sum over c of exp(s(a, c))), s = cosine / temperature.

    The positive must be among the candidates for this to be a log-probability; it is not added.
    Time and memory O(B * C).

    Args:
        anchor: (B, d).
        positive: (B, d), row by row the anchor's.
        candidates: (C, d).
        temperature: > 0.
    """
    anchor, positive = F.normalize(anchor, dim=-1), F.normalize(positive, dim=-1)
    pos_logit = (anchor * positive).sum(-1) / temperature  # (B,)
    candidates = F.normalize(candidates, dim=-1)
    return (log_sum_exp_dot(anchor / temperature, candidates) - pos_logit).mean()


def noise_contrast(embedding: Tensor, noise: float, temperature: float) -> Tensor:
    """Return InfoNCE between two views of the same rows, each moved by a random vector.

    The vectors have the signs of their rows (Yu et al., "SimGCL", SIGIR 2022, arXiv:2112.08679,
    eq. 6 and 7).

    Args:
        embedding: (B, d).
        noise: length of the vectors, >= 0.
        temperature: > 0.
    """
    moves = F.normalize(torch.rand(2, *embedding.shape, device=embedding.device), dim=-1)
    first, second = embedding + embedding.sign() * moves * noise
    return info_nce(first, second, second, temperature)


def moment_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return |var - var| + |mean - mean| of all numbers of two tables, a scalar."""
    return (first.var() - second.var()).abs() + (first.mean() - second.mean()).abs()


def full_softmax_loss(states: Tensor, table: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy of ``states @ table.T``, at about half the usual cost on a CPU.

    Args:
        states: (B, d).
        table: (C, d), one row a class.
        target: (B,) int64 in [0, C).
    """
    logit = (states * F.embedding(target, table)).sum(-1)  # (B,)
    return (log_sum_exp_dot(states, table) - logit).mean()


def sampled_softmax_loss(query: Tensor, table: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
    """Return the mean cross-entropy of the target among itself and the negatives, a scalar.

    Products with the whole table are taken a few queries at a time and computed again for the
    gradient: memory O(B K) above the inputs, where gathering rows of the table takes O(B K d).

    Args:
        query: (B, d).
        table: (C, d), one row a class.
        target: (B,) int64 in [0, C).
        negatives: (B, K) int64 in [0, C); a class drawn twice counts twice.
    """
    classes = torch.cat([target.unsqueeze(1), negatives], dim=1)  # (B, K + 1)
    parts = zip(query.split(_QUERIES), classes.split(_QUERIES), strict=True)
    logits = [checkpoint(_logits, q, table, c, use_reentrant=False) for q, c in parts]
    joined = torch.cat(logits)
    return F.cross_entropy(joined, torch.zeros_like(target))


def _logits(query: Tensor, table: Tensor, classes: Tensor) -> Tensor:
    return (query @ table.T).gather(1, classes)


_QUERIES = 256


def log_sum_exp_dot(query: Tensor, candidates: Tensor) -> Tensor:
    """Return log sum over c of exp(<q, c>), (B,), without autograd's several (B, C) matrices.

    On a CPU memory traffic is most of the cost. Narrow vectors (d <= 64) are taken a few queries at
    a time and computed again for the gradient, in memory O(C); wide ones in a single (B, C) matrix.
    2,048 queries, 9,309 candidates, one thread, forward and backward: d = 4 took 0.06 s a few at a
    time and 0.11 s in one matrix, d = 64 the same 0.15 s, d = 256 0.45 and 0.30 s.

    Args:
        query: (B, d).
        candidates: (C, d).
    """
    function = _LogSumExpDotByRows if query.size(1) <= _NARROW else _LogSumExpDot
    with torch.autocast(query.device.type, enabled=False):  # backward runs outside of it
        query, candidates = (
            x if x.dtype == torch.float64 else x.float() for x in (query, candidates)
        )
        return function.apply(query, candidates)


_NARROW, _ROWS = 64, 64


class _LogSumExpDotByRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, candidates: Tensor) -> Tensor:
        parts = []
        for rows in query.split(_ROWS):
            logits = rows @ candidates.T  # (_ROWS, C)
            top = logits.amax(dim=-1, keepdim=True)
            parts.append(logits.sub_(top).exp_().sum(dim=-1).log_() + top.squeeze(-1))
        result = torch.cat(parts)
        ctx.save_for_backward(query, candidates, result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        query, candidates, result = ctx.saved_tensors
        by_query, by_candidate = [], torch.zeros_like(candidates)
        for rows, log_total, scale in zip(
            query.split(_ROWS), result.split(_ROWS), grad.split(_ROWS), strict=True
        ):
            weights = (rows @ candidates.T).sub_(log_total.unsqueeze(-1)).exp_()  # softmax
            by_query.append((weights @ candidates) * scale.unsqueeze(-1))
            by_candidate.addmm_(weights.T, rows * scale.unsqueeze(-1))
        return torch.cat(by_query), by_candidate


class _LogSumExpDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, candidates: Tensor) -> Tensor:
        logits = query @ candidates.T  # (B, C)
        top = logits.amax(dim=-1, keepdim=True)  # (B, 1)
        weights = logits.sub_(top).exp_()
        total = weights.sum(dim=-1, keepdim=True)  # (B, 1)
        ctx.save_for_backward(query, candidates, weights, total)
        return (total.log() + top).squeeze(-1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        query, candidates, weights, total = ctx.saved_tensors
        scale = grad.unsqueeze(-1) / total  # (B, 1): softmax = weights / total
        return (weights @ candidates) * scale, weights.T @ (query * scale)


class Factored(NamedTuple):
    """A matrix (N, d) of low rank K as ``coords @ basis``.

    Attributes:
        coords: (N, K).
        basis: (K, d).
    """

    coords: Tensor
    basis: Tensor

    def dense(self) -> Tensor:
        """Return (N, d)."""
        return self.coords @ self.basis


def cross_modal_loss(
    views: Sequence[Tensor | Factored],
    user: Tensor,
    item: Tensor,
    n_users: int,
    temperature: float,
) -> Tensor:
    """Return InfoNCE between each pair of modalities' views of the batch, summed over the batch.

    A user's view in the one modality is the anchor, the same user's in the other the positive, and
    all users in the other are the candidates; likewise for items. Padding is left out. LGMRec's
    hypergraph contrast (arXiv:2312.16400) and SRGFormer's two (arXiv:2511.00584) have this form.
    Time O(B N k), with k the width of a dense view and the rank of a factored one, whose cosines
    are the same numbers.

    Args:
        views: embeddings (N, d) by each modality, users first; all dense or all factored.
        user: (B,) int64 user ids.
        item: (B,) int64 item ids.
        n_users: U, padding id 0 included.
        temperature: > 0.
    """
    total = user.new_zeros((), dtype=torch.float32)
    for first, second in combinations(views, 2):
        left, right = _cosine_factors(first, second)  # (N, k) each
        for node, candidates in (
            (user, right[1:n_users]),
            (item + n_users, right[n_users + 1 :]),
        ):
            anchor = F.embedding(node, left) / temperature  # (B, k)
            pos_logit = (anchor * F.embedding(node, right)).sum(-1)  # (B,)
            total = total + (log_sum_exp_dot(anchor, candidates) - pos_logit).sum()
    return total


def _cosine_factors(first: Tensor | Factored, second: Tensor | Factored) -> tuple[Tensor, Tensor]:
    """Return two matrices whose rows' products are the cosines of the views' rows."""
    if isinstance(first, Factored) and isinstance(second, Factored):
        left, right = (
            view.coords / view.dense().norm(dim=-1, keepdim=True).clamp(min=1e-12)
            for view in (first, second)
        )
        return left @ (first.basis @ second.basis.T), right
    left, right = (v.dense() if isinstance(v, Factored) else v for v in (first, second))
    return F.normalize(left, dim=-1), F.normalize(right, dim=-1)
