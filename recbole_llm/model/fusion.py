"""Gates and attention that weigh the modalities of every node."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gate(width: int) -> nn.Module:
    """Return a gate (..., width) -> (..., width) with values in (0, 1)."""
    return nn.Sequential(nn.Linear(width, width), nn.Sigmoid())


def attention(width: int, n_scores: int = 1) -> nn.Module:
    """Return a network (..., width) -> (..., n_scores) whose outputs a softmax turns to weights."""
    return nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, n_scores, bias=False))


def fuse_by_preference(
    behaviour: Tensor, contents: Mapping[str, Tensor], score: nn.Module, prefer: nn.ModuleDict
) -> Tensor:
    """Return the mean of what modalities share and of what each has alone, (N, d).

    Attention over modalities gives the shared part, and preferences read from behaviour gate each
    modality's own part. MGCN (arXiv:2308.03588, behaviour-aware fuser) and GUME (arXiv:2407.12338,
    attributes separation) have this form.

    Args:
        behaviour: (N, d).
        contents: (N, d) of each of the M modalities by name.
        score: network (..., d) -> (..., 1), one for all modalities.
        prefer: gate (..., d) -> (..., d) of each modality.
    """
    stacked = torch.stack(list(contents.values()), dim=1)  # (N, M, d)
    weight = F.softmax(score(stacked), dim=1)  # (N, M, 1)
    common = (weight * stacked).sum(dim=1)  # (N, d)
    fused = common
    for name, content in contents.items():
        fused = fused + prefer[name](behaviour) * (content - common)
    return fused / (len(contents) + 1)
