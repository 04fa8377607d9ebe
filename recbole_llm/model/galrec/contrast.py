"""Contrast against a queue of earlier keys, encoded by a slow copy of the trained weights.

Reference: K. He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR
2020, arXiv:1911.05722 (MoCo), sections 3.1 and 3.2.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


class MomentumWeights(nn.Module):
    """Copies of a module's trainable weights that follow them slowly: theta_k of MoCo's eq. 2.

    The module itself runs with the copies in place of its weights, so that its frozen weights, a
    language model's trunk above all, exist once.

    Args:
        module: module whose weights that require a gradient are copied, as buffers of this one.
        momentum: factor m in [0, 1].

    Raises:
        ValueError: ``momentum`` is out of range.
    """

    def __init__(self, module: nn.Module, momentum: float) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1], got momentum={momentum}.")
        self.momentum = momentum
        self.names = [name for name, weight in module.named_parameters() if weight.requires_grad]
        for name, weight in self._of(module):
            self.register_buffer(_buffer_name(name), weight.detach().clone())

    def _of(self, module: nn.Module) -> list[tuple[str, Tensor]]:
        weights = dict(module.named_parameters())
        return [(name, weights[name]) for name in self.names]

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Set theta_k to m theta_k + (1 - m) theta_q."""
        for name, weight in self._of(module):
            slow = self.get_buffer(_buffer_name(name))
            slow.mul_(self.momentum).add_(weight, alpha=1 - self.momentum)

    @torch.no_grad()
    def call(self, module: nn.Module, *args: Any) -> Any:
        """Return ``module(*args)`` as computed with the copies."""
        slow = {name: self.get_buffer(_buffer_name(name)) for name in self.names}
        return functional_call(module, slow, args)


def _buffer_name(name: str) -> str:
    return name.replace(".", "/")  # torch allows no dot in a buffer's name


class KeyQueue(nn.Module):
    """The latest keys, first in, first out, and the nodes that they represent.

    Args:
        size: number L of keys, >= 1.
        width: width h of a key.

    Raises:
        ValueError: ``size`` is out of range.
    """

    keys: Tensor  # (L, h) float32, unit rows where filled
    nodes: Tensor  # (L,) int64 node ids, 0 where not filled yet
    cursor: Tensor  # () int64, the slot that is overwritten next

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"queue_size must be an integer >= 1, got queue_size={size}.")
        self.register_buffer("keys", torch.zeros(size, width))
        self.register_buffer("nodes", torch.zeros(size, dtype=torch.long))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, keys: Tensor, nodes: Tensor) -> None:
        """Replace the oldest keys by keys (B, h) of nodes (B,); of more than L the last L stay."""
        size = len(self.nodes)
        keys, nodes = keys[-size:], nodes[-size:]
        slots = (self.cursor + torch.arange(len(nodes), device=nodes.device)) % size
        self.keys[slots] = F.normalize(keys.float(), dim=-1)
        self.nodes[slots] = nodes
        self.cursor.copy_((self.cursor + len(nodes)) % size)

    def contrast(
        self, anchor: Tensor, positive: Tensor, nodes: Tensor, temperature: float
    ) -> Tensor:
        """Return the mean of -log(exp(s(a, p)) / (exp(s(a, p)) + sum over q of exp(s(a, q)))).

        s is cosine / temperature and q runs over the queue's keys of other nodes than the
        positive's: a sum over nodes has each node once, and its own is the numerator. Zero while
        the queue is empty.

        Args:
            anchor: (B, h) states.
            positive: (B, h) states, row by row the anchor's.
            nodes: (B,) int64, the node of each positive.
            temperature: divisor of the cosines, > 0.
        """
        with torch.autocast(anchor.device.type, enabled=False):
            anchor = F.normalize(anchor.float(), dim=-1) / temperature
            positive = F.normalize(positive.float(), dim=-1)
            pos_logit = (anchor * positive).sum(-1, keepdim=True)  # (B, 1)
            # clone: a push may change the keys before the backward pass needs them
            neg_logit = anchor @ self.keys.clone().T  # (B, L)
            is_other = (self.nodes > 0) & (self.nodes != nodes.unsqueeze(1))
            neg_logit = neg_logit.masked_fill(~is_other, -torch.inf)
            logits = torch.cat([pos_logit, neg_logit], dim=1)  # (B, 1 + L)
            return (logits.logsumexp(dim=1) - pos_logit.squeeze(1)).mean()
