"""recbole-llm: LLM and multimodal recommenders in RecBole, under one honest protocol."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_llm.record import RunRecord

from recbole_llm.version import __version__

__all__ = ["__version__", "run"]


def run(model: str, dataset: str, **overrides: Any) -> "RunRecord":
    """Train a model on a dataset, evaluate it, and return the run's record.

    See :func:`recbole_llm.quick_start.run`; importing this package alone loads no torch.
    """
    from recbole_llm import quick_start

    return quick_start.run(model, dataset, **overrides)
