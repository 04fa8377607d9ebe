"""Initial weights: Xavier's throughout, or those that a model's public code starts with."""

from recbole.model.init import xavier_uniform_initialization
from torch import nn
from torch.nn.init import xavier_uniform_


def initialize(model: nn.Module, choice: str) -> None:
    """Set the initial weights of a model's tables and linear layers.

    Public code often sets its tables alone, so that linear layers keep torch's start: weights and
    biases uniform in +-1 / sqrt(width of the input).

    Args:
        model: model whose parts exist.
        choice: ``xavier``: Xavier-uniform weights, biases zero; ``torch``: tables like that, linear
            layers as torch starts them; ``torch_bias``: weights like that, biases as torch starts
            them.
    """
    if choice == "xavier":
        model.apply(xavier_uniform_initialization)
        return
    kinds = (nn.Embedding, nn.Linear) if choice == "torch_bias" else (nn.Embedding,)
    for part in model.modules():
        if isinstance(part, kinds):
            xavier_uniform_(part.weight)
