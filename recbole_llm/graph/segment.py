"""Reductions over segments: rows of an edge array that share a target index.

E: rows, S: segments. ``torch_scatter`` is used where it is installed (the extra ``scatter``);
otherwise native torch gives the same results, up to rounding. On a CPU the extra is not worth
installing: at 0.1 to 3 million edges native torch took 0.75 to 1.0 times torch-scatter's seconds
(benchmarks/speed, section "Segments"). On a GPU nothing was measured.
"""

from functools import cache
from types import ModuleType

from torch import Tensor


def segment_sum(src: Tensor, index: Tensor, n_segments: int) -> Tensor:
    """Sum the rows of each segment.

    Args:
        src: (E, ...) numbers.
        index: (E,) int64 in [0, S), in any order.
        n_segments: S.

    Returns:
        (S, ...) sums, dtype of ``src``; 0 for an empty segment.

    Raises:
        ValueError: ``index`` is not (E,).
    """
    _check(src, index)
    if scatter := _torch_scatter():
        return scatter.scatter(src, index, dim=0, dim_size=n_segments, reduce="sum")
    return src.new_zeros(n_segments, *src.shape[1:]).index_add(0, index, src)


def segment_softmax(src: Tensor, index: Tensor, n_segments: int) -> Tensor:
    """Turn scores into weights that sum to 1 within each segment, such as attention over edges.

    Args:
        src: (E,) or (E, heads) scores; every head is normalised on its own.
        index: (E,) int64 in [0, S), in any order.
        n_segments: S.

    Returns:
        Weights in [0, 1], shape and dtype of ``src``.

    Raises:
        ValueError: ``index`` is not (E,).
    """
    _check(src, index)
    if scatter := _torch_scatter():
        return scatter.composite.scatter_softmax(src, index, dim=0, dim_size=n_segments)
    top = src.new_zeros(n_segments, *src.shape[1:])
    target = _unsqueeze_like(index, src).expand_as(src)
    # Subtracting a segment's maximum keeps exp finite and cancels out, so it needs no gradient.
    top = top.scatter_reduce(0, target, src.detach(), "amax", include_self=False)
    weight = (src - top[index]).exp()
    return weight / segment_sum(weight, index, n_segments)[index]


@cache
def _torch_scatter() -> ModuleType | None:
    try:
        import torch_scatter
    except ModuleNotFoundError:  # not ImportError: a broken installation should be seen
        return None
    return torch_scatter


def _check(src: Tensor, index: Tensor) -> None:
    if index.shape != src.shape[:1]:
        raise ValueError(
            f"index must have shape ({src.size(0)},), one segment per row of src, "
            f"got {tuple(index.shape)}."
        )


def _unsqueeze_like(vector: Tensor, other: Tensor) -> Tensor:
    """Return vector (E,) with trailing dimensions of size 1, as many as ``other`` has."""
    return vector.view(-1, *[1] * (other.dim() - 1))
