"""Which weights a loss reaches, told apart from those whose gradient is zero up to rounding."""

import torch
from torch import nn

# A gradient that is zero on paper may be computed as a sum of terms that cancel. Whether anything
# is left depends on the processor; what is left is smaller than float32 can resolve.
ROUNDING = 4 * torch.finfo(torch.float32).eps


def unreached(module: nn.Module) -> set[str]:
    """Return the trainable weights whose gradient is missing, or zero up to rounding."""
    sizes = {
        name: 0.0 if weight.grad is None else weight.grad.abs().max().item()
        for name, weight in module.named_parameters()
        if weight.requires_grad
    }
    largest = max(sizes.values())
    return {name for name, size in sizes.items() if size <= ROUNDING * largest}


def lone_queries(module: nn.Module) -> set[str]:
    """Return the adapters of T5's decoder that no loss reaches while the decoder reads one token.

    A softmax over one key is 1, whatever the query is. Cross-attention has all the prompt's keys.
    """
    return {
        name
        for name, weight in module.named_parameters()
        if weight.requires_grad and ".decoder." in name and ".SelfAttention.q." in name
    }
