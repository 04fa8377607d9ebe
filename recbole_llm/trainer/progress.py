"""How far a training is: one line an epoch."""

import time
from collections.abc import Mapping
from typing import Any

from recbole_llm.metrics.register import short_name


class EpochLines:
    """Builds the line of each epoch of one training.

    Args:
        n_epochs: number of epochs at most.
        metric: the ``valid_metric``, such as ``Recall@20``.
        patience: validations without a gain before training stops.
    """

    def __init__(self, n_epochs: int, metric: str, patience: int) -> None:
        self.n_epochs, self.patience = n_epochs, patience
        self.metric = short_name(metric)
        self.begin, self.n_done = time.monotonic(), 0

    def line(self, entry: Mapping[str, Any], score: float | None, best: Mapping[str, Any]) -> str:
        """Return ``epoch 5/9  loss ..  valid R@20 ..  best .. at 3  2 of 20 without a gain  ETA``.

        Args:
            entry: log of the epoch: ``epoch`` (from 0), ``loss``.
            score: value of the metric, where the epoch was validated.
            best: ``score``, ``epoch`` (from 0) and ``n_without_gain`` of the validations so far.
        """
        self.n_done += 1
        parts = [f"epoch {entry['epoch'] + 1}/{self.n_epochs}", f"loss {entry['loss']:.4f}"]
        if score is not None:
            parts.append(f"valid {self.metric} {score:.4f}")
            parts.append(f"best {best['score']:.4f} at {best['epoch'] + 1}")
            if best["n_without_gain"]:
                parts.append(f"{best['n_without_gain']} of {self.patience} without a gain")
        n_left = self.n_epochs - entry["epoch"] - 1
        if n_left:
            seconds = (time.monotonic() - self.begin) / self.n_done * n_left
            parts.append(f"ETA {duration(seconds)}")
        return "  ".join(parts)


def duration(seconds: float) -> str:
    """Return a time for people: ``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"
