"""Exact nearest-neighbour graphs over feature rows, without a V x V matrix."""

from hashlib import blake2b
from typing import NamedTuple

import torch
from torch import Tensor

# Features up to 128 MiB in float32 are normalised once; a copy of larger ones may not fit.
_SMALL = 2**25


class KnnGraph(NamedTuple):
    """A neighbour graph, sorted by source row, each row's most similar neighbour first.

    Attributes:
        edge_index: (2, E) int64, source row above neighbour.
        similarity: (E,) float32 cosine in [-1, 1].
        n_copies: number of rows that have the direction of an earlier row, so that ties decide
            which of them are neighbours.
    """

    edge_index: Tensor
    similarity: Tensor
    n_copies: int = 0


@torch.no_grad()
def knn_graph(
    feature: Tensor,
    k: int,
    block: int = 1024,
    *,
    include_self: bool = False,
    tie_order: Tensor | None = None,
) -> KnnGraph:
    """Find each row's k nearest rows by cosine similarity, exactly.

    Time O(V^2 F), memory O(block * (V + F) + V * k) above the features, and at most 128 MiB for a
    normalised copy of small ones. Row 0 is padding: like a zero row it has no neighbours and is the
    neighbour of no row.

    Args:
        feature: (V, F) floating point, float16 and float32 alike; computed in float32.
        k: neighbours per row, 1 <= k < V. A row has fewer if fewer rows qualify.
        block: rows compared at a time.
        include_self: whether a row counts among its own k neighbours, as the first of them.
        tie_order: (V,) int64 permutation of 0..V-1; of neighbours with equal cosine, those of the
            lowest number go first. None: the row's index.

    Returns:
        edge_index (2, E) int64 with E <= V * k, similarity (E,) float32, and the number of copies.

    Raises:
        ValueError: ``feature`` is not a floating-point matrix, ``k`` or ``block`` is out of range,
            ``tie_order`` has another length, or ``feature`` holds NaN or infinity (names the first
            such row).
    """
    _check(feature, k, block, tie_order)
    n_rows, device = len(feature), feature.device
    rank = torch.arange(n_rows, device=device) if tie_order is None else tie_order.to(device)
    norm = _row_norm(feature, block)  # (V,)
    usable = norm > 0
    usable[0] = False
    unusable = (~usable).nonzero().squeeze(1)
    first = _first_equal_row(feature, norm, block)  # (V,)
    copy = (first != torch.arange(n_rows, device=device)).nonzero().squeeze(1)
    unit = _unit_rows(feature, norm, 0, n_rows) if feature.numel() <= _SMALL else None

    scores = torch.empty(min(block, n_rows), n_rows, device=device)
    edges, similarities = [], []
    for start in range(0, n_rows, block):
        source = torch.arange(start, min(start + block, n_rows), device=device)
        batch = scores[: len(source)]  # (B, V)
        if unit is None:
            _cosine(feature, norm, start, block, out=batch)
        else:
            torch.mm(unit[source], unit.T, out=batch)
        # A matrix product may round equal rows differently by position, which would break ties.
        batch[:, copy] = batch[:, first[copy]]
        batch[:, unusable] = -torch.inf
        # Above every cosine, so that a row precedes its duplicates; clamped to 1 below.
        batch[source - start, source] = 2.0 if include_self else -torch.inf
        value, index = _top_k(batch, k, rank)  # (B, k) each
        keep = (value > -torch.inf) & usable[source, None]
        edges.append(torch.stack([source[:, None].expand_as(index)[keep], index[keep]]))
        similarities.append(value[keep].clamp_(-1.0, 1.0))
    n_copies = int(usable[copy].sum())
    return KnnGraph(torch.cat(edges, dim=1), torch.cat(similarities), n_copies)


def _check(feature: Tensor, k: int, block: int, tie_order: Tensor | None) -> None:
    if feature.dim() != 2 or not feature.is_floating_point():
        raise ValueError(
            "feature must be a floating-point matrix (V, F), "
            f"got shape {tuple(feature.shape)} of {feature.dtype}."
        )
    if not 1 <= k < len(feature):
        raise ValueError(
            f"k must be in 1 <= k < {len(feature)}, the number of feature rows, got {k=}."
        )
    if block < 1:
        raise ValueError(f"block must be at least 1, got {block=}.")
    if tie_order is not None and tie_order.shape != feature.shape[:1]:
        raise ValueError(
            f"tie_order must have {len(feature)} numbers, one a row, got shape "
            f"{tuple(tie_order.shape)}."
        )


def _row_norm(feature: Tensor, block: int) -> Tensor:
    """Return the Euclidean norms (V,) float32; raise ValueError at NaN or infinity."""
    # float64: the squares of large float16 and float32 numbers overflow their own type
    norm = torch.cat(
        [torch.linalg.vector_norm(b, dim=1, dtype=torch.float64) for b in feature.split(block)]
    )
    bad_row = (~norm.isfinite()).nonzero()
    if len(bad_row):
        raise ValueError(
            f"feature must be finite, got NaN or infinity first in row {int(bad_row[0])} "
            f"({len(bad_row)} of {len(norm)} rows); clean the features, or zero rows without any."
        )
    return norm.float()


def _unit_rows(feature: Tensor, norm: Tensor, start: int, block: int) -> Tensor:
    """Return rows ``start`` to ``start + block`` in float32 at length 1; zero rows stay zero."""
    rows = slice(start, start + block)
    return feature[rows].float() / norm[rows, None].masked_fill(norm[rows, None] == 0, 1.0)


def _first_equal_row(feature: Tensor, norm: Tensor, block: int) -> Tensor:
    """Return for each row the lowest index with the same direction, bit for bit, (V,) int64."""
    seen: dict[bytes, int] = {}
    first: list[int] = []
    for start in range(0, len(feature), block):
        for row in _unit_rows(feature, norm, start, block).cpu().numpy():
            # a digest instead of the row: the keys would be a second copy of the features
            first.append(seen.setdefault(blake2b(row, digest_size=16).digest(), len(first)))
    return torch.tensor(first, device=feature.device)


def _cosine(feature: Tensor, norm: Tensor, start: int, block: int, out: Tensor) -> None:
    """Write the cosines of one block of rows with all rows into ``out`` (B, V)."""
    source = _unit_rows(feature, norm, start, block)  # (B, F)
    for other in range(0, len(feature), block):
        unit = _unit_rows(feature, norm, other, block)  # (B', F)
        torch.mm(source, unit.T, out=out[:, other : other + block])


def _top_k(scores: Tensor, k: int, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row (B, V), k < V, and their columns, ties to the lower rank."""
    value, index = scores.topk(k + 1)
    index = index[:, :k]
    # topk picks any of several equal scores. It matters only where the k-th equals the next one.
    cut = value[:, k]
    tied = (value[:, k - 1] == cut) & (cut > -torch.inf)
    if tied.any():
        index[tied] = _first_columns(scores[tied], cut[tied, None], k, rank)
    index = index.gather(1, rank[index].argsort())
    value, order = scores.gather(1, index).sort(descending=True, stable=True)
    return value, index.gather(1, order)


def _first_columns(scores: Tensor, cut: Tensor, k: int, rank: Tensor) -> Tensor:
    """Return the columns above ``cut`` (B, 1), then those of lowest rank that equal it, (B, k)."""
    n_cols = scores.size(1)
    rank = rank.int()
    key = torch.where(scores == cut, rank, n_cols)
    key = torch.where(scores > cut, rank - n_cols, key)
    return key.topk(k, largest=False).indices
