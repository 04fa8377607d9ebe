"""LlamaRec's first stage: which items a user's prompt offers, and in which order."""

from typing import Any, Self

import numpy as np
import torch
from recbole.data.dataset.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llm.data.history import UserHistory
from recbole_llm.data.sequence_loader import PrefixLoader
from recbole_llm.graph.neighbours import edge_priority, name_checksums

#: Interaction field of CountedPrefixLoader: the number of training items before the target.
N_BEFORE = "n_before"


class CountedPrefixLoader(PrefixLoader):
    """PrefixLoader that also says how many items the user had before the target, ``n_before``."""

    def collate_fn(self, index: Tensor) -> Interaction:
        """Return one batch of prefixes, cut to the longest of them."""
        batch = super().collate_fn(index)
        batch.update(Interaction({N_BEFORE: self.prefix[index]}))
        return batch


class Candidates(nn.Module):
    """The C items that a frozen retriever ranks highest for each user. I: items. B: batch.

    Args:
        retriever: model in evaluation mode, whose ``full_sort_predict`` scores every item.
        dataset: training part.
        n_candidates: number C of candidates.
        hides_known: whether the items that a user has are no candidates.

    Raises:
        ValueError: the dataset has fewer than C items.
    """

    retriever: Any

    def __init__(
        self, retriever: nn.Module, dataset: Dataset, n_candidates: int, hides_known: bool
    ) -> None:
        super().__init__()
        if n_candidates >= dataset.item_num:
            raise ValueError(
                f"n_candidates={n_candidates}, and the dataset has {dataset.item_num - 1} items. "
                f"Set a smaller --n_candidates."
            )
        self.retriever = retriever
        self.history = UserHistory.of([dataset])
        self.n_candidates, self.hides_known = n_candidates, hides_known
        self.keys = [
            name_checksums(dataset.field2id_token[field])
            for field in (dataset.uid_field, dataset.iid_field)
        ]

    def train(self, mode: bool = True) -> Self:
        """Leave the retriever in evaluation mode."""
        super().train(mode)
        self.retriever.eval()
        return self

    @torch.no_grad()
    def scores(self, interaction: Interaction) -> Tensor:
        """Return the retriever's scores (B, I), float32."""
        device = next(self.retriever.parameters()).device
        with torch.autocast(device.type, enabled=False):  # else other items would be the best
            return self.retriever.full_sort_predict(interaction)

    def open_scores(
        self, scores: Tensor, user: Tensor, item_seq: Tensor, n_before: Tensor | None = None
    ) -> Tensor:
        """Return the scores (B, I) with -inf at the padding item and at what is no candidate.

        Args:
            scores: (B, I).
            user: (B,) int64.
            item_seq: (B, S) int64, the users' recent items.
            n_before: (B,) int64, training items of each user that are known; None: all.
        """
        scores = scores.clone()
        scores[:, 0] = -torch.inf
        if self.hides_known:
            start = self.history.indptr[user.cpu()]
            n_known = self.history.lengths()[user.cpu()] if n_before is None else n_before.cpu()
            known = self.history.spans(start, n_known, max(int(n_known.max()), 1))
            scores.scatter_(1, known.to(scores.device), -torch.inf)
            scores.scatter_(1, item_seq, -torch.inf)
        return scores

    def retrieved(self, scores: Tensor) -> Tensor:
        """Return the C best items of each row, (B, C) int64, best first."""
        return scores.topk(self.n_candidates, dim=1).indices

    def random_with(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return each row's target, and C - 1 others that are drawn at random, (B, C) int64.

        Args:
            scores: (B, I), -inf at what is no candidate.
            target: (B,) int64.
        """
        chance = torch.rand_like(scores).masked_fill(torch.isinf(scores), -torch.inf)
        return self.retrieved(chance.scatter(1, target.unsqueeze(1), 2.0))

    def fixed_order(self, user: Tensor, items: Tensor) -> Tensor:
        """Return the items (B, C) of each row in an order that looks random and is always the same.

        It depends on the names of the user and the items alone.
        """
        rows, columns = (ids.cpu().numpy() for ids in (user, items))
        user_key = np.repeat(self.keys[0][rows], columns.shape[1])
        priority = edge_priority(user_key, self.keys[1][columns.ravel()]).reshape(columns.shape)
        order = torch.from_numpy(np.argsort(priority, axis=1)).to(items.device)
        return items.gather(1, order)


def shuffled(items: Tensor) -> Tensor:
    """Return the items (B, C) of each row in random order."""
    return items.gather(1, torch.rand(items.shape, device=items.device).argsort(dim=1))


def lifted(scores: Tensor, items: Tensor, order: Tensor) -> Tensor:
    """Return scores (B, I) in which some items stand above all others, in an order of their own.

    The last of them is 1 above the row's best score, and their distances are those of ``order``.

    Args:
        scores: (B, I); column 0, the padding item, may be anything.
        items: (B, C) int64, ids of the items.
        order: (B, C) what the items are ordered by.
    """
    best = scores[:, 1:].max(dim=1, keepdim=True).values
    return scores.scatter(1, items, best + 1 + order - order.min(dim=1, keepdim=True).values)
