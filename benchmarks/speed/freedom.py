"""FREEDOM: a training epoch, a plain implementation's against recbole-llm's.

Both sides run in this process on the same batches from the same weights, with two wide modalities.
The plain side is written here as research code usually is (see ``plain.py``). An epoch is measured
on its first batches (loader included) and scaled to all; the graph drawn once an epoch is added.
"""

from typing import Any

import torch
import torch.nn.functional as F
from common import Report, parse_arguments
from plain import (
    OURS,
    THEIRS,
    PlainRecommender,
    Side,
    bipartite_coo,
    bpr,
    check_first_step,
    coo_matrix,
    run,
    training_edges,
)
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.model.freedom import share_weights

TARGET = 4.0


class PlainFREEDOM(PlainRecommender):
    """U, I: users, items, with padding id 0. N = U + I. B: batch. d: width."""

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config["embedding_size"], dataset, bias=True)
        self.n_layers, self.n_item_layers = config["n_layers"], config["n_item_layers"]
        self.edge_dropout, self.reg_weight = config["edge_dropout"], config["reg_weight"]
        shares = share_weights(config["modality_weights"], list(self.feature))
        tables = [table.weight.detach() for table in self.feature.values()]
        graphs = [item_graph(table, config["knn_k"]) for table in tables]
        weighted = [share * graph for share, graph in zip(shares, graphs, strict=True)]
        self.item_graph = sum(weighted[1:], weighted[0]).coalesce()  # one (I, I) matrix
        self.user, self.item = training_edges(dataset)
        user_degree = torch.bincount(self.user, minlength=self.n_users)[self.user]
        item_degree = torch.bincount(self.item, minlength=self.n_items)[self.item]
        self.edge_weight = (user_degree * item_degree).double().rsqrt().float()
        self.graph = self.keep(self.user, self.item)

    def keep(self, user: Tensor, item: Tensor) -> Tensor:
        """Return the normalised user-item graph of these edges, (N, N)."""
        return bipartite_coo(user, item, self.n_users, self.n_items)

    def begin_epoch(self) -> None:
        """Draw the epoch's edges."""
        kept = torch.multinomial(
            self.edge_weight, int(len(self.edge_weight) * (1 - self.edge_dropout))
        )
        self.graph = self.keep(self.user[kept], self.item[kept])

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return user (U, d) and item (I, d) embeddings."""
        item_h = self.item_embedding.weight
        for _ in range(self.n_item_layers):
            item_h = torch.sparse.mm(self.item_graph, item_h)
        hidden = torch.cat([self.user_embedding.weight, self.item_embedding.weight])
        layers = [hidden]
        for _ in range(self.n_layers):
            layers.append(torch.sparse.mm(self.graph, layers[-1]))
        users, items = torch.stack(layers).mean(dim=0).split([self.n_users, self.n_items])
        return users, items + item_h

    def calculate_loss(self, batch: Interaction) -> Tensor:
        """Return BPR plus each modality's BPR."""
        user, pos, neg = batch["user_id"], batch["item_id"], batch["neg_item_id"]
        users, items = self()
        loss = bpr(users[user], items[pos], items[neg])
        for name, table in self.feature.items():
            projected = self.project[name](table.weight)  # (I, d), every item
            loss = loss + self.reg_weight * bpr(users[user], projected[pos], projected[neg])
        return loss


def item_graph(feature: Tensor, k: int) -> Tensor:
    """Return D^-1/2 S D^-1/2 (I, I) of the k nearest items, from all cosines at once."""
    unit = F.normalize(feature[1:], dim=1)  # without padding
    nearest = (unit @ unit.T).topk(k).indices + 1  # (I - 1, k)
    row = torch.arange(1, len(feature)).repeat_interleave(k)
    value = torch.full((len(row),), 1 / k)  # every degree is k
    return coo_matrix(row, nearest.flatten(), value, (len(feature), len(feature)))


def main() -> None:
    arguments = parse_arguments(__doc__, batches=6, repeats=5)
    report = Report("freedom", arguments, THEIRS)

    def check(label: str, sides: dict[str, Side], batch: Any) -> None:
        theirs, ours = sides[THEIRS].model, sides[OURS].model
        ours.begin_epoch()
        row, col = ours._sampled.to_sparse_coo().indices()
        upper = row < theirs.n_users
        theirs.graph = theirs.keep(row[upper], col[upper] - theirs.n_users)
        check_first_step(report, label, sides, batch, 1e-5)

    run(report, arguments, "FREEDOM", PlainFREEDOM, {}, check, TARGET)


if __name__ == "__main__":
    main()
