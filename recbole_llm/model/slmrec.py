"""SLMRec: LightGCN over ids and over each modality, fused, with a self-supervised task.

Reference: Z. Tao et al., "Self-supervised Learning for Multimedia Recommendation", TMM 2022 (the
paper's tasks are named at the methods). The main loss is a softmax over the batch's positives.
Departs from the public code: scores are inner products, of which the code takes a sigmoid that
makes large ones equal. Linear layers start with zero bias. The two augmented views of a task are
kept apart, where the code appends the layers of each to the other. MMRec's version inserts an idle
linear layer, left over from its absent audio, before the last modality's; there is none here.
"""

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.model.init import xavier_uniform_initialization
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.graph.sparse import spmm
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.loss import full_softmax_loss, info_nce
from recbole_llm.model.modality_graph import FrozenFeatures
from recbole_llm.model.propagation import rows, training_adjacency
from recbole_llm.processes import WHOLE, Share
from recbole_llm.settings.group import Settings
from recbole_llm.settings.run import OVERALL, RECBOLE, TRAINING
from recbole_llm.settings.values import Choice, Float, Int


class SLMRec(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width.

    M: modalities. A view is an id or a modality, so there are V = 1 + M.

    Config keys: ``embedding_size`` (d), ``n_layers``, ``temperature`` of the main loss,
    ``ssl_task``, ``ssl_weight`` (alpha), ``ssl_temperature``, ``dropout`` of the tasks FD, FD+FM.
    """

    settings = (
        TRAINING
        | RECBOLE.pick("train_neg_sample_args", "weight_decay")
        | OVERALL.pick("modality_scaling")
        | Settings(
            embedding_size=Int(2),
            n_layers=Int(0),
            temperature=Float(above=0),
            ssl_task=Choice("FAC", "FD", "FM", "FD+FM"),
            ssl_weight=Float(0),
            ssl_temperature=Float(above=0),
            dropout=Float(0, below=1),
        )
    )

    input_type = InputType.POINTWISE  # positives only; the YAML draws no negatives
    norm_adj: Tensor  # sparse (N, N), D^-1/2 A D^-1/2, training edges only

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, self.n_layers = config["embedding_size"], config["n_layers"]
        self.temperature, self.ssl_temperature = config["temperature"], config["ssl_temperature"]
        self.ssl_task, self.ssl_weight = config["ssl_task"], config["ssl_weight"]
        dropout = config["dropout"]
        self.dropout = dropout if "FD" in self.ssl_task else 0.0
        self.user_embedding = nn.Embedding(self.n_users, dim)
        self.item_embedding = nn.Embedding(self.n_items, dim)
        self.features = FrozenFeatures("SLMRec", dataset)
        self.project = self.features.linear(dim)
        self.n_views = 1 + len(self.features)
        self.fuse_user = nn.Linear(dim * self.n_views, dim)
        self.fuse_item = nn.Linear(dim * self.n_views, dim)
        if self.ssl_task == "FAC":
            coarsest = dim // 2 if len(self.features) > 1 else dim
            widths = [dim] * (len(self.features) - 1) + [coarsest]
            self.anchor_heads = nn.ModuleList([nn.Linear(dim, width) for width in widths])
            # A bias would add the same to every candidate; the softmax leaves it out.
            self.modality_heads = nn.ModuleList([nn.Linear(dim, w, bias=False) for w in widths])
        self.register_buffer("norm_adj", training_adjacency(dataset), persistent=False)
        self.apply(xavier_uniform_initialization)

    def views(self, masked: int | None = None, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
        """Return all views of users (U, V d) and items (I, V d): LightGCN from shared users.

        Views do not mix, so one propagation of all columns serves them.

        Args:
            masked: number of the view whose items start at zero; None: no view's.
            dropout: probability that a propagated number is dropped.
        """
        items = [self.item_embedding.weight]
        items += [self.project[name](feature) for name, feature in self.features.items()]
        items = [torch.zeros_like(x) if n == masked else x for n, x in enumerate(items)]
        users = self.user_embedding.weight.repeat(1, self.n_views)
        hidden = torch.cat([users, torch.cat(items, dim=1)])  # (N, V d)
        total = hidden
        for _ in range(self.n_layers):
            hidden = F.dropout(spmm(self.norm_adj, hidden, self.norm_adj), dropout)
            total = total + hidden
        out = total / (self.n_layers + 1)
        return out[: self.n_users], out[self.n_users :]

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return fused user (U, d) and item (I, d) embeddings."""
        users, items = self.views()
        return self.fuse_user(users), self.fuse_item(items)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return the softmax over the batch's positives plus alpha times the task's loss."""
        return self.loss_share(interaction, WHOLE)

    def loss_share(self, batch: Interaction, share: Share) -> Tensor:
        """Return a process's share of the loss: its rows, contrasted with those of all."""
        user, item = batch[self.USER_ID], batch[self.ITEM_ID]
        own = share.rows(len(user))
        users, items = self.views()
        user_e, item_e = self.fuse_user(rows(users, user)), self.fuse_item(rows(items, item))
        loss = info_nce(user_e[own], item_e[own], item_e, self.temperature)
        if self.ssl_task == "FAC":
            loss = loss + self.ssl_weight * self.fine_and_coarse(rows(items, item), share)
        else:
            loss = loss + self.ssl_weight * self.augmented(user, item, share)
        return loss * (len(user[own]) / len(user))

    def fine_and_coarse(self, items: Tensor, share: Share = WHOLE) -> Tensor:
        """Return the loss of task FAC: the id finds each modality, in a space behind the last one.

        Inner products are not normalised, as in the authors' code.

        Args:
            items: (B, V d) views of the batch's items.
            share: process whose rows are averaged over.
        """
        own = share.rows(len(items))
        anchor, *modalities = items.chunk(self.n_views, dim=1)
        target = torch.arange(len(items), device=items.device)
        loss = items.new_zeros(())
        for narrow, head, modality in zip(
            self.anchor_heads, self.modality_heads, modalities, strict=True
        ):
            anchor = narrow(anchor)
            loss = loss + full_softmax_loss(
                anchor[own] / self.ssl_temperature, head(modality), target[own]
            )
        return loss

    def augmented(self, user: Tensor, item: Tensor, share: Share = WHOLE) -> Tensor:
        """Return the contrast of two augmented fusions of the batch: tasks FD, FM and FD+FM.

        FD drops propagated numbers; FM masks the items of one view in each fusion, not the same.
        Averaged over the rows of a process.
        """
        masked: list[int | None] = [None, None]
        if "FM" in self.ssl_task:
            masked = list(torch.randperm(self.n_views)[:2].tolist())
        first, second = (self.views(view, self.dropout) for view in masked)
        loss = user.new_zeros((), dtype=torch.float32)
        for fuse, index, left, right in zip(
            (self.fuse_user, self.fuse_item), (user, item), first, second, strict=True
        ):
            anchor, other = fuse(rows(left, index)), fuse(rows(right, index))  # (B, d)
            own = share.rows(len(anchor))
            loss = loss + info_nce(anchor[own], other[own], other, self.ssl_temperature)
        return loss
