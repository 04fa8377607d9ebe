"""Evaluation by full ranking, with RecBole's own metrics."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.evaluator.collector import DataStruct
from torch import Tensor
from tqdm import tqdm

from recbole_llm.data.loader import FullRankLoader
from recbole_llm.data.tie_order import tie_order
from recbole_llm.metrics.base import USERS
from recbole_llm.processes import from_main, gathered_rows, n_processes, own_share
from recbole_llm.trainer.ranking import Ranking, rank_batch
from recbole_llm.trainer.saving import SavingMixin

# What RecBole's collector may gather besides counts of the dataset.
_COLLECTED = ("rec.topk", "rec.items", "rec.meanrank", "rec.score", "data.label")


class EvaluationMixin(SavingMixin):
    """Evaluation that keeps the best items of each user and builds no (B, I) matrix of hits.

    Attributes:
        ranking: lists of the part evaluated last; None where RecBole's own loop measured it.
    """

    ranking: Ranking | None
    item_tensor: Any
    tie_order: Tensor | None = None

    @torch.no_grad()
    def evaluate(
        self,
        eval_data: AbstractDataLoader,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> "OrderedDict[str, float] | None":
        """Measure the model on one part of the split, with RecBole's own metrics.

        Metrics that need only the top of the ranking are fed from ``rank_batch``; the others
        (GAUC) go through RecBole's loop. None for an empty part. Of several processes each ranks
        some users, and all get the whole ranking and the metrics.
        """
        if not eval_data:
            return None
        if load_best_model:
            self.load_best(model_file)
        needs = {need for need in _COLLECTED if self.eval_collector.register.need(need)}
        if needs - {"rec.topk", "rec.items"} or not isinstance(eval_data, FullRankLoader):
            self.ranking = None
            result = super().evaluate(eval_data, False, show_progress=show_progress)
        else:
            self.ranking = self._rank(eval_data, show_progress)
            return self.measure(self.ranking)
        return OrderedDict((name, float(value)) for name, value in result.items())

    def measure(self, ranking: Ranking) -> "OrderedDict[str, float]":
        """Return the metrics of some lists; of several processes all get those of the first."""
        result = from_main(lambda: self.evaluator.evaluate(self._collected(ranking)))
        return OrderedDict((name, float(value)) for name, value in result.items())

    def _collected(self, ranking: Ranking) -> DataStruct:
        """Return what RecBole's collector would have gathered of this ranking."""
        struct = DataStruct()
        for key, value in self.eval_collector.data_struct._data_dict.items():
            struct.set(key, value)
        k = max(self.config["topk"])  # the ranking is longer where save_topk is
        hits, n_positives = ranking.hits[:, :k], ranking.n_positives
        struct.set("rec.topk", torch.cat([hits.int(), n_positives.int().unsqueeze(1)], dim=1))
        struct.set("rec.items", ranking.items[:, :k])
        struct.set(USERS, ranking.users)
        return struct

    def _rank(self, eval_data: FullRankLoader, show_progress: bool) -> Ranking:
        """Rank all items, or the loader's candidates, for each user of a part."""
        self.model.eval()
        self.tot_item_num = eval_data.n_items
        if self.item_tensor is None:
            self.item_tensor = eval_data._dataset.get_item_feature().to(self.device)
        if self.tie_order is None:
            dataset = eval_data._dataset
            self.tie_order = tie_order(dataset.field2id_token[dataset.iid_field]).to(self.device)
        k = self._list_length(eval_data)
        rows, batches = _own_batches(eval_data)
        parts = [Ranking.empty(k)]  # of several processes this one may have no user
        for batch in tqdm(batches, "Evaluate", len(rows), ncols=100, disable=not show_progress):
            users = batch[0][eval_data.uid_field].cpu()
            parts.append(Ranking(users, *self._rank_users(eval_data, batch, k, self.tie_order)))
        ranking = Ranking(*map(torch.cat, zip(*parts, strict=True)))
        if n_processes() == 1:
            return ranking
        order = gathered_rows(torch.cat(rows)).argsort()
        return Ranking(*(gathered_rows(part)[order] for part in ranking))

    def _list_length(self, eval_data: FullRankLoader) -> int:
        longest = max(self.config["topk"])
        if longest > eval_data.n_items:
            raise ValueError(
                f"topk asks for the best {longest} items, and the dataset has "
                f"{eval_data.n_items - 1}. Set a smaller --topk."
            )
        return min(max(longest, self.config["save_topk"]), eval_data.n_items)

    def _rank_users(
        self, eval_data: FullRankLoader, batch: Any, k: int, place: Tensor
    ) -> list[Tensor]:
        """Return the lists of one batch, on the CPU: items, scores, hits, counts of positives."""
        interaction, hidden, pos_row, pos_item = batch
        scores = self._full_sort_batch_eval((interaction, None, pos_row, pos_item))[1]
        if eval_data.candidates is not None:
            scores[:, ~eval_data.candidates.to(scores.device)] = -torch.inf
        items, top, *others = rank_batch(scores, hidden, pos_row, pos_item, k, place)
        return [part.cpu() for part in (items, top.float(), *others)]


def _own_batches(eval_data: FullRankLoader) -> tuple[list[Tensor], Iterable[Any]]:
    """Return the rows of each batch that this process ranks, and the batches of these rows.

    Each batch is shared by all processes, as its users have histories of similar length.
    """
    batches = torch.arange(eval_data.sample_size).split(eval_data.step)
    if n_processes() == 1:
        return list(batches), eval_data
    own = [rows[own_share().rows(len(rows))] for rows in batches]
    own = [rows for rows in own if len(rows)] or [torch.empty(0, dtype=torch.int64)]
    return own, (eval_data.collate_fn(rows.tolist()) for rows in own if len(rows))
