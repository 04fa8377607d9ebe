"""Learning-rate schedules, as functions of the epochs done."""

import math

from recbole_llm.config import Config


def learning_rate_factor(config: Config, epochs_done: float) -> float:
    """Return what to multiply ``learning_rate`` by.

    ``lr_schedule``: ``constant``; ``exponential`` (``lr_decay`` every ``lr_decay_epochs`` epochs,
    continuously); ``cosine`` and ``linear`` (linear warm-up over ``warmup_epochs``, then down to
    ``min_learning_rate`` at the last of ``epochs``, along half a cosine or straight).
    """
    schedule = config["lr_schedule"]
    if schedule == "constant":
        return 1.0
    if schedule == "exponential":
        return config["lr_decay"] ** (epochs_done / config["lr_decay_epochs"])
    warmup, epochs = config["warmup_epochs"], config["epochs"]
    if epochs_done < warmup:
        return (epochs_done + 1e-3) / warmup  # the very first step must move
    floor = config["min_learning_rate"] / config["learning_rate"]
    done = min((epochs_done - warmup) / max(epochs - warmup, 1e-9), 1.0)
    left = 1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return floor + (1 - floor) * left
