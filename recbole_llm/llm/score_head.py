"""Score heads: from a hidden state of the language model to a score of every item."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.llm.cross_entropy import catalogue_cross_entropy

HEADS = ("tied", "full", "frozen")


class ScoreHead(nn.Module):
    """scores = query @ table.T + bias; a subclass defines table, and perhaps query and bias.

    N: states. I: items, counting padding id 0. h: the language model's hidden size. k: width of
    the table. Scores and losses are computed in float32, with or without autocast.
    """

    bias: Tensor | None  # (I,)

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("bias", None)

    def table(self) -> Tensor:
        """Return the items' rows (I, k)."""
        raise NotImplementedError

    def query(self, states: Tensor) -> Tensor:
        """Return the rows (N, k) that states (N, h) compare the items with."""
        return states

    def weights(self) -> dict[str, Tensor]:
        """Return what scores are made of: ``items`` (I, k), and ``bias`` (I,) where there is one.

        A tied head adds ``projection`` W (k, h); without it k is h.
        """
        parts = {"items": self.table()}
        return parts if self.bias is None else parts | {"bias": self.bias}

    def user_rows(self, states: Tensor) -> Tensor:
        """Return rows (N, k) of states, or (N, k + 1), whose products with items are the scores."""
        query = self.query(wide(states))
        return query if self.bias is None else F.pad(query, (0, 1), value=1.0)

    def item_rows(self) -> Tensor:
        """Return the items' rows (I, k), or (I, k + 1), that go with ``user_rows``."""
        table = self.table()
        return table if self.bias is None else torch.cat([table, self.bias.unsqueeze(1)], dim=1)

    def forward(self, states: Tensor) -> Tensor:
        """Return the scores (N, I) of states (N, h)."""
        with torch.autocast(states.device.type, enabled=False):
            scores = self.query(wide(states)) @ self.table().T
            return scores if self.bias is None else scores + self.bias

    def loss(self, states: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy over the catalogue; the padding item is no class.

        Args:
            states: (N, h).
            target: (N,) int64 item ids, none of them 0.
        """
        bias = None if self.bias is None else self.bias[1:]
        with torch.autocast(states.device.type, enabled=False):
            query = self.query(wide(states))
        return catalogue_cross_entropy(query, self.table()[1:], bias, target - 1)


class TiedHead(ScoreHead):
    """scores = (W h) . T_i + b_i, T the frozen item table: h x k + I weights.

    What the model reads of an item is what it scores the item by, so that no item has to be seen
    before its score means something. W is normal, with the deviation that gives the first scores a
    standard deviation of 0.5 over items of unit variance; b is 0.

    Args:
        item_table: (I, k) float32, frozen, of about unit variance.
        hidden_size: width h of a state.
        state_norm: length of a typical state.
    """

    item_table: Tensor

    def __init__(self, item_table: Tensor, hidden_size: int, state_norm: float) -> None:
        super().__init__()
        self.register_buffer("item_table", item_table, persistent=False)
        width = item_table.size(1)
        self.weight = nn.Parameter(torch.empty(width, hidden_size))  # W
        nn.init.normal_(self.weight, std=0.5 / (state_norm * math.sqrt(width)))
        self.bias = nn.Parameter(torch.zeros(len(item_table)))

    def table(self) -> Tensor:
        """Return T (I, k)."""
        return self.item_table

    def query(self, states: Tensor) -> Tensor:
        """Return W h of each state, (N, k)."""
        return F.linear(states, self.weight)

    def weights(self) -> dict[str, Tensor]:
        """Return what scores are made of: T, b and W."""
        return super().weights() | {"projection": self.weight}


class FullHead(ScoreHead):
    """A trained bias-free linear layer, h x I weights.

    Args:
        rows: (I, h) first weights; None stands for a uniform draw in +-1 / sqrt(h).
        n_items: number I of items.
        hidden_size: width h of a state.
    """

    def __init__(self, n_items: int, hidden_size: int, rows: Tensor | None = None) -> None:
        super().__init__()
        rows = _uniform(n_items, hidden_size) if rows is None else rows
        self.weight = nn.Parameter(rows)

    def table(self) -> Tensor:
        """Return the weights (I, h)."""
        return self.weight


class FrozenHead(ScoreHead):
    """A random bias-free linear layer that is never trained, as HeLLM's authors' code has it.

    Weights are uniform in +-1 / sqrt(h), which is the code's +-1/64 with LLaMA-2-7B (h = 4096),
    and rounded to bfloat16, as the code's are. They follow from ``seed``, so no checkpoint has to
    hold them.

    Args:
        n_items: number I of items.
        hidden_size: width h of a state.
        seed: seed of the draw.
    """

    weight: Tensor

    def __init__(self, n_items: int, hidden_size: int, seed: int) -> None:
        super().__init__()
        rows = _uniform(n_items, hidden_size, torch.Generator().manual_seed(seed))
        self.register_buffer("weight", rows.bfloat16().float(), persistent=False)

    def table(self) -> Tensor:
        """Return the weights (I, h)."""
        return self.weight


def wide(states: Tensor) -> Tensor:
    """Return states in float32, or in float64 if that is what they are in."""
    return states.to(torch.promote_types(states.dtype, torch.float32))


def _uniform(n_items: int, width: int, generator: torch.Generator | None = None) -> Tensor:
    bound = 1 / math.sqrt(width)
    return torch.empty(n_items, width).uniform_(-bound, bound, generator=generator)


def rotated_rows(item_table: Tensor, hidden_size: int, state_norm: float) -> Tensor:
    """Return a random rotation of the item table as first weights (I, h): like items score alike.

    Rows are as long as makes the first scores cosines, whatever the size of the states.

    Args:
        item_table: (I, k) float32.
        hidden_size: width h of a state.
        state_norm: length of a typical state.
    """
    rotation = nn.init.orthogonal_(torch.empty(item_table.size(1), hidden_size))
    return F.normalize(item_table @ rotation, dim=-1) / state_norm


def build_head(
    kind: str,
    item_table: Tensor,
    hidden_size: int,
    state_norm: float,
    seed: int,
    head_init: str | None = None,
) -> ScoreHead:
    """Build a score head.

    Args:
        kind: one of ``HEADS``.
        item_table: (I, k) float32, frozen.
        hidden_size: width h of a state.
        state_norm: length of a typical state.
        seed: seed of the frozen head.
        head_init: first weights of the full head: ``random``, or ``items`` (as None) for a random
            rotation of the item table.
    """
    if kind == "tied":
        return TiedHead(item_table, hidden_size, state_norm)
    if kind == "frozen":
        return FrozenHead(len(item_table), hidden_size, seed)
    random = head_init == "random"
    rows = None if random else rotated_rows(item_table, hidden_size, state_norm)
    return FullHead(len(item_table), hidden_size, rows)
