"""Training that diverges: it is stopped, or at least warned of."""

import logging
import math

_ADVICE = "Lower --learning_rate, or set --clip_grad_norm=\"{'max_norm': 1.0}\"."
_GROWTH = 1e6


def check_finite(loss: float, epoch: int) -> None:
    """Stop training whose loss is no number any more.

    Raises:
        ValueError: the loss is NaN or infinite.
    """
    if not math.isfinite(loss):
        kind = "NaN" if math.isnan(loss) else "infinite"
        raise ValueError(f"the training loss of epoch {epoch} is {kind}. {_ADVICE}")


def warn_of_growth(losses: list[float], first: float | None = None) -> None:
    """Warn once of a loss that is a million times what it was at first, and above a million.

    Args:
        losses: mean loss of each epoch so far, the last of which is new.
        first: loss of the first batch, if it is known: an epoch may diverge within itself.
    """
    start = min(abs(losses[0]), math.inf if first is None else abs(first))
    limit = _GROWTH * max(1.0, start)
    if abs(losses[-1]) >= limit and all(abs(loss) < limit for loss in losses[:-1]):
        logging.getLogger().warning(
            "the training loss has grown from %.3g to %.3g: training has diverged. %s",
            start,
            losses[-1],
            _ADVICE,
        )
