"""SRGFormer: a training epoch, a plain implementation's against recbole-llm's.

Both sides run in this process on the same batches from the same weights, with two wide modalities.
The plain side is written here as research code usually is (see ``plain.py``): attention gathers
both ends of every edge and projects them there, the contrasts make full (B, N) matrices. An epoch
is measured on its first batches (loader included) and scaled to all.

The settings are the model's own, but for the width: the paper's is 256, 64 takes less time.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from common import Report, parse_arguments
from plain import (
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
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.model.srgformer import SRGFormer

TARGET = 3.0


class PlainSRGFormer(PlainRecommender):
    """U, I: users, items, with padding id 0. N = U + I. E: directed edges. B: batch. d: width."""

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        dim = config["embedding_size"]
        super().__init__(dim, dataset, bias=False)
        self.config, sizes = config, (self.n_users, self.n_items)
        self.hyperedge = nn.ParameterDict(
            {
                name: nn.Parameter(torch.empty(table.embedding_dim, config["n_hyperedges"]))
                for name, table in self.feature.items()
            }
        )
        self.query, self.key, self.value = (nn.Parameter(torch.empty(dim, dim)) for _ in range(3))
        self.dropout = nn.Dropout(config["hyper_dropout"])
        user, item = training_edges(dataset)
        self.norm_adj = bipartite_coo(user, item, *sizes)
        self.interactions = coo_matrix(user, item, torch.ones(len(user)), sizes)
        degree = torch.bincount(user, minlength=self.n_users)
        self.user_mean = coo_matrix(user, item, 1 / degree[user], sizes)

    def copy_weights(self, ours: SRGFormer) -> None:
        """Take over all trained weights of ours."""
        super().copy_weights(ours)
        for name in ("query", "key", "value"):
            getattr(self, name).copy_(getattr(ours.attention, name).weight.T)
        for name, parameter in self.hyperedge.items():
            parameter.copy_(ours.hyperedges[name].hyperedge)

    def attend(self, hidden: Tensor) -> Tensor:
        """Return each node's attention over its neighbours, (N, d)."""
        row, col = self.norm_adj.indices()
        n_heads, n_nodes = self.config["n_heads"], len(hidden)
        at_row, at_col = hidden[row], hidden[col]  # (E, d)
        query, key, value = (
            (at @ weight).view(len(row), n_heads, -1)
            for at, weight in ((at_row, self.query), (at_col, self.key), (at_col, self.value))
        )  # (E, n_heads, d / n_heads)
        score = (query * key).sum(dim=-1).clamp(-10, 10).exp()  # (E, n_heads)
        total = score.new_zeros(n_nodes, n_heads).index_add(0, row, score)
        weighted = (score / total[row]).unsqueeze(-1) * value
        return torch.zeros_like(hidden).index_add(0, row, weighted.flatten(1))

    def through_hyperedges(self, name: str, items: Tensor) -> Tensor:
        """Return one modality's embeddings through its hyperedges, (N, d)."""
        item_logit = self.feature[name].weight @ self.hyperedge[name]  # (I, K)
        user_logit = torch.sparse.mm(self.interactions, item_logit)  # (U, K)
        user_part, item_part = (
            self.dropout(F.gumbel_softmax(logit, self.config["temperature"], dim=-1))
            for logit in (user_logit, item_logit)
        )
        item_part = F.pad(item_part[1:], (0, 0, 1, 0))  # padding item 0 is in none
        out = items
        for _ in range(self.config["n_hyper_layers"]):
            gathered = item_part.T @ out  # (K, d)
            out = item_part @ gathered
        return torch.cat([user_part @ gathered, out])

    def parts(self) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return the final embeddings (N, d), and each modality's of either kind."""
        layers = [torch.cat([self.user_embedding.weight, self.item_embedding.weight])]
        for _ in range(self.config["n_layers"]):
            layers.append(torch.sparse.mm(self.norm_adj, layers[-1]))
        collaborative = torch.stack(layers, dim=1).mean(dim=1)
        out, modality, hyper = collaborative, [], []
        for name, table in self.feature.items():
            projected = self.project[name](table.weight)  # (I, d), every item
            hidden = torch.cat([torch.sparse.mm(self.user_mean, projected), projected])
            for _ in range(self.config["n_modality_layers"]):
                hidden = torch.sparse.mm(self.norm_adj, hidden)
            modality.append(hidden)
            hyper.append(self.through_hyperedges(name, collaborative[self.n_users :]))
            out = out + F.normalize(hidden, dim=-1)
        out = out + self.config["global_weight"] * F.normalize(self.attend(collaborative), dim=-1)
        local = torch.stack(hyper).sum(dim=0)
        return out + self.config["local_weight"] * F.normalize(local, dim=-1), modality, hyper

    def contrast(self, views: Sequence[Tensor], user: Tensor, item: Tensor) -> Tensor:
        """Return InfoNCE of the batch's users and items between each pair of modalities."""
        total = torch.zeros(())
        for first, second in combinations(views, 2):
            pairs = zip(self.split(first), self.split(second), (user, item), strict=True)
            for anchors, candidates, node in pairs:
                anchor = F.normalize(anchors[node], dim=-1)  # (B, d)
                positive = F.normalize(candidates[node], dim=-1)
                everyone = F.normalize(candidates[1:], dim=-1)  # without padding
                pos_score = ((anchor * positive).sum(-1) / self.config["temperature"]).exp()
                all_score = (anchor @ everyone.T / self.config["temperature"]).exp().sum(dim=1)
                total = total - (pos_score / all_score).log().sum()
        return total

    def split(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the users' (U, d) and the items' (I, d) part."""
        return nodes[: self.n_users], nodes[self.n_users :]

    def calculate_loss(self, batch: Interaction) -> Tensor:
        """Return BPR, L2 and the two contrasts."""
        user, pos, neg = batch["user_id"], batch["item_id"], batch["neg_item_id"]
        out, modality, hyper = self.parts()
        users, items = self.split(out)
        picked = users[user], items[pos], items[neg]
        squares = sum(x.square().sum() for x in picked) / (2 * len(user))
        loss = bpr(*picked) + self.config["reg_weight"] * squares
        loss = loss + self.config["hyper_cl_weight"] * self.contrast(hyper, user, pos)
        return loss + self.config["modality_cl_weight"] * self.contrast(modality, user, pos)


@contextmanager
def no_noise(*models: nn.Module) -> Iterator[None]:
    """Switch dropout off, and let Gumbel-softmax be a softmax, so that sides can be compared."""
    layers = [layer for m in models for layer in m.modules() if isinstance(layer, nn.Dropout)]
    rates = [layer.p for layer in layers]

    def softmax(logits: Tensor, tau: float = 1.0, dim: int = -1) -> Tensor:
        return F.softmax(logits / tau, dim=dim)

    for layer in layers:
        layer.p = 0.0
    with mock.patch("torch.nn.functional.gumbel_softmax", softmax):
        yield
    for layer, rate in zip(layers, rates, strict=True):
        layer.p = rate


def main() -> None:
    arguments = parse_arguments(__doc__, batches=4, repeats=5, embedding_size=64)
    report = Report("srgformer", arguments, THEIRS)

    def check(label: str, sides: dict[str, Side], batch: Any) -> None:
        with no_noise(*(side.model for side in sides.values())):
            check_first_step(report, label, sides, batch, 1e-3)

    settings = {"embedding_size": arguments.embedding_size}
    run(report, arguments, "SRGFormer", PlainSRGFormer, settings, check, TARGET)


if __name__ == "__main__":
    main()
