"""PGL: content alone, trained on a principal subgraph of user-item edges, ranked on all of them.

Reference: P. Yu et al., "Mind Individual Information! Principal Graph Learning for Multimedia
Recommendation", AAAI 2025 (the paper's parts are named at the methods). The authors' code trains
the item features too: ``train_features: true``. Its linear layers start as torch's do:
``initialization: torch``. Its released settings leave out the contrast; those here are of its logs.
With more than two modalities the weights of their item graphs add up to 1.
"""

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.graph.principal import principal_adj
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.initialization import initialize
from recbole_llm.model.item_mixture import ITEM_MIXTURE, mixed_item_graph, share_weights
from recbole_llm.model.loss import bpr_loss, info_nce
from recbole_llm.model.modality_graph import TRAINED_FEATURES, item_features
from recbole_llm.model.propagation import EdgeSampler, propagate_mean, rows, training_adjacency
from recbole_llm.processes import WHOLE, Share
from recbole_llm.settings.group import Settings
from recbole_llm.settings.run import OVERALL, TRAINING
from recbole_llm.settings.values import Choice, Float, Int


class PGL(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width. M: modalities.

    Config keys: ``embedding_size`` (d, of each modality), ``n_layers`` (user-item),
    ``n_item_layers``, those of ``mixed_item_graph``, ``subgraph``, ``edge_dropout``, ``dropout``,
    ``cl_weight``, ``temperature``, ``train_features``, ``initialization``.
    """

    settings = (
        TRAINING
        | ITEM_MIXTURE
        | TRAINED_FEATURES
        | OVERALL.pick("lr_schedule")
        | Settings(
            embedding_size=Int(1),
            n_layers=Int(0),
            n_item_layers=Int(0),
            subgraph=Choice("local", "global"),
            edge_dropout=Float(0, below=1),
            dropout=Float(0, below=1),
            cl_weight=Float(0),
            temperature=Float(above=0),
            initialization=Choice("xavier", "torch"),
        )
    )

    input_type = InputType.PAIRWISE
    norm_adj: Tensor  # sparse (N, N), D^-1/2 A D^-1/2, training edges only
    subgraph: Tensor | None  # sparse (N, N), the same of the edges to train on

    @classmethod
    def check_settings(cls, config: Config) -> None:
        """Check the weights of the modalities' graphs, and that a principal subgraph has a rank.

        Raises:
            ValueError: ``share_weights`` refuses the weights, or ``embedding_size`` is too small.
        """
        if config["modalities"]:
            share_weights(config["modality_weights"], list(config["modalities"]))
        if config["subgraph"] == "global" and config["embedding_size"] < 8:
            raise ValueError(
                f"subgraph=global takes embedding_size / 2 singular values, at least 4, got "
                f"embedding_size={config['embedding_size']}."
            )

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, self.n_layers = config["embedding_size"], config["n_layers"]
        self.n_item_layers, self.edge_dropout = config["n_item_layers"], config["edge_dropout"]
        self.cl_weight, self.temperature = config["cl_weight"], config["temperature"]
        self.features = item_features("PGL", config, dataset)
        self.project = self.features.linear(dim)
        names = self.features.names
        self.user_embedding = nn.ModuleDict(
            {name: nn.Embedding(self.n_users, dim) for name in names}
        )
        self.dropout = nn.Dropout(config["dropout"])
        initialize(self, config["initialization"])
        self.item_graph = mixed_item_graph(config, dataset, self.features)
        self.register_buffer("norm_adj", training_adjacency(dataset), persistent=False)
        self.sampler = EdgeSampler(dataset)
        principal = None
        if config["subgraph"] == "global":
            self.edge_dropout = 0.0
            (user, item), weight = self.sampler.edge_index, self.sampler.edge_weight
            size = self.n_users, self.n_items
            # half of d: each singular value of the graph's (N, N) matrix comes twice
            principal = principal_adj(user, item, weight, *size, dim // 2)
        self.register_buffer("subgraph", principal, persistent=False)  # None: not drawn yet

    def begin_epoch(self) -> None:
        """Draw the epoch's local subgraph: few edges of popular nodes are kept."""
        if self.edge_dropout:
            self.subgraph = self.sampler.draw(self.edge_dropout)

    def forward(self, norm_adj: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return user (U, M d) and item (I, M d) embeddings, by default over all training edges."""
        adjacency = self.norm_adj if norm_adj is None else norm_adj
        items: list[Tensor] = []
        users: list[Tensor] = []
        for name, feature in self.features.items():
            items.append(F.normalize(self.project[name](feature), dim=-1))
            users.append(self.user_embedding.get_parameter(f"{name}.weight"))
        item_in = torch.cat(items, dim=1)  # (I, M d)
        hidden = torch.cat([torch.cat(users, dim=1), item_in])  # (N, M d)
        out = propagate_mean(adjacency, hidden, self.n_layers)
        item_h = item_in
        for _ in range(self.n_item_layers):
            item_h = self.item_graph(item_h)
        return out[: self.n_users], out[self.n_users :] + item_h

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR over the subgraph plus the contrast of dropped-out views, a scalar."""
        return self.loss_share(interaction, WHOLE)

    def loss_share(self, batch: Interaction, share: Share) -> Tensor:
        """Return a process's share of the loss: its rows, contrasted with those of all."""
        user, pos, neg = (batch[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        own = share.rows(len(user))
        if self.subgraph is None:
            self.begin_epoch()
        user_emb, item_emb = self(self.subgraph)
        user_e, pos_e, neg_e = rows(user_emb, user), rows(item_emb, pos), rows(item_emb, neg)
        loss = bpr_loss((user_e * pos_e).sum(-1)[own], (user_e * neg_e).sum(-1)[own])
        if self.cl_weight:
            for nodes in (user_e, pos_e):
                anchor, other = self.dropout(nodes), self.dropout(nodes)  # (B, M d)
                contrast = info_nce(anchor[own], other[own], other, self.temperature)
                loss = loss + self.cl_weight * contrast / 2
        return loss * (len(user[own]) / len(user))
