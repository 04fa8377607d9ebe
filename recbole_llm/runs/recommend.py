"""The best items of a finished run: for its users, and for new users by a history of items."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from recbole.data.dataset.dataset import Dataset
from torch import Tensor

from recbole_llm.data.items import Items
from recbole_llm.data.loader import interaction_pairs
from recbole_llm.data.tie_order import tie_order
from recbole_llm.data.titles import item_titles
from recbole_llm.registry import suggest
from recbole_llm.runs.histories import HistoryScorer
from recbole_llm.runs.reload import ReloadedRun
from recbole_llm.runs.scoring import Scorer
from recbole_llm.trainer.ranking import rank_batch

#: What may be left out of the lists, with its meaning.
HIDE = {
    "known": "items of the user's training and validation part, as when the run was tested",
    "all": "every item that the user has in the data, the test part included",
    "none": "nothing",
}


class Recommender:
    """Ranks the items of a finished run.

    Args:
        run: finished run.
        hide: a key of ``HIDE``: items that are left out of the lists.

    Raises:
        ValueError: ``hide`` is unknown, or the model cannot rank a catalogue.
    """

    def __init__(self, run: ReloadedRun, hide: str = "known") -> None:
        if hide not in HIDE:
            raise ValueError(
                f"hide must be one of {', '.join(HIDE)}, got {hide!r}.{suggest(hide, list(HIDE))}"
            )
        self.run, self.hide = run, hide
        self.dataset: Dataset = run.split.dataset
        self.scorer = Scorer(run)

    def for_users(self, users: Sequence[str] | None = None, k: int = 10) -> pd.DataFrame:
        """Return the best items of users of the dataset; those of a tested user equal the run's.

        Args:
            users: tokens of users, each once; None: every user of the dataset.
            k: number of items a user.

        Returns:
            Columns ``user``, ``rank`` (from 1), ``item``, ``title`` (where the dataset has
            titles) and ``score``; fewer than ``k`` rows of a user who has fewer items left.

        Raises:
            ValueError: a user is unknown (the text names the nearest token), or ``k`` is out of
                range.
        """
        if users is None:
            users = [
                str(token) for token in self.dataset.field2id_token[self.dataset.uid_field][1:]
            ]
        ids = self._ids(self.dataset.uid_field, users, "user")
        self._check_length(k)
        lists = []
        for batch in ids.split(self.run.config["eval_users"]):
            hidden = None
            if self.hide != "none":
                known = self._known[batch.numpy()].tocoo()
                hidden = torch.from_numpy(known.row).long(), torch.from_numpy(known.col).long()
            lists.append(self._best(self.scorer.users(batch), hidden, k))
        return self._table(users, lists)

    def for_histories(self, histories: Sequence[Sequence[str]], k: int = 10) -> pd.DataFrame:
        """Return the best items for new users, each known by the items of a history.

        Args:
            histories: tokens of items, oldest first; each history holds at least one.
            k: number of items a history.

        Returns:
            A table as of ``for_users``; ``user`` is the number of the history, from 1.

        Raises:
            ValueError: an item is unknown, a history is empty, ``k`` is out of range, or the model
                ranks only users that it was trained on.
        """
        self._check_length(k)
        scorer = self._history_scorer
        items = [self._ids(self.dataset.iid_field, history, "item") for history in histories]
        if not items or not all(history.numel() for history in items):
            raise ValueError("a history is empty; it needs at least one item.")
        lists = []
        size = self.run.config["eval_users"]
        for start in range(0, len(items), size):
            batch = items[start : start + size]
            hidden = None
            if self.hide != "none":
                lengths = torch.tensor([len(history) for history in batch])
                hidden = torch.arange(len(batch)).repeat_interleave(lengths), torch.cat(batch)
            lists.append(self._best(scorer.scores(batch), hidden, k))
        return self._table([str(number + 1) for number in range(len(items))], lists)

    def _check_length(self, k: int) -> None:
        n_items = self.dataset.item_num - 1
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= n_items:
            raise ValueError(f"k must be an integer in 1..{n_items}, the dataset's items, got {k}.")

    def _ids(self, field: str, tokens: Sequence[str], kind: str) -> Tensor:
        """Return internal ids of tokens, (n,) int64.

        Raises:
            ValueError: a token is unknown.
        """
        known = self.dataset.field2token_id[field]
        ids = []
        for token in map(str, tokens):
            if token not in known or not known[token]:  # 0 is padding
                near = suggest(token, [str(each) for each in list(known)[1:]])
                hint = " New users are ranked by a history of items." if kind == "user" else ""
                raise ValueError(
                    f"dataset {self.dataset.dataset_name!r} has no {kind} {token!r}.{near}{hint}"
                )
            ids.append(known[token])
        return torch.tensor(ids, dtype=torch.int64)

    @cached_property
    def _history_scorer(self) -> HistoryScorer:
        return HistoryScorer(self.scorer)

    @cached_property
    def _known(self) -> sp.csr_matrix:
        """The interactions to hide, (U, I)."""
        split = self.run.split
        parts = [split.train, split.valid] + ([split.test] if self.hide == "all" else [])
        pairs = [interaction_pairs(part) for part in parts]
        row, column = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
        shape = (self.dataset.user_num, self.dataset.item_num)
        return sp.csr_matrix((np.ones(len(row), dtype=bool), (row, column)), shape=shape)

    @cached_property
    def _place(self) -> Tensor:
        return tie_order(self.dataset.field2id_token[self.dataset.iid_field])

    @cached_property
    def _titles(self) -> Sequence[str] | None:
        return item_titles(
            Items(self.run.config, self.dataset.field2id_token[self.dataset.iid_field])
        )

    def _best(
        self, scores: Tensor, hidden: tuple[Tensor, Tensor] | None, k: int
    ) -> tuple[Tensor, Tensor]:
        """Return items and scores (B, k), best first, on the CPU."""
        nothing = torch.empty(0, dtype=torch.int64)
        items, best, *_ = rank_batch(scores, hidden, nothing, nothing, k, self._place)
        return items.cpu(), best.float().cpu()

    def _table(self, users: Sequence[str], lists: Sequence[tuple[Tensor, Tensor]]) -> pd.DataFrame:
        return pd.concat(self._rows(users, lists), ignore_index=True)

    def _rows(
        self, users: Sequence[str], lists: Sequence[tuple[Tensor, Tensor]]
    ) -> Iterator[pd.DataFrame]:
        tokens = self.dataset.field2id_token[self.dataset.iid_field].astype(str)
        start = 0
        for items, scores in lists:
            row, column = torch.isfinite(scores).nonzero(as_tuple=True)
            chosen = items[row, column].numpy()
            content = {
                "user": [users[start + index] for index in row.tolist()],
                "rank": column.numpy() + 1,
                "item": tokens[chosen],
            }
            if self._titles is not None:
                content["title"] = [self._titles[item] for item in chosen]
            content["score"] = scores[row, column].numpy()
            start += len(items)
            yield pd.DataFrame(content)
