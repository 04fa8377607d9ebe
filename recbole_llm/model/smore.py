"""SMORE: modalities filtered and fused in the spectrum of their embeddings.

Reference: R. K. Ong and A. W. H. Khong, "Spectrum-based Modality Representation Fusion Graph
Convolutional Network for Multimodal Recommendation", WSDM 2025, arXiv:2412.14978 (the paper's
parts are named at the methods).
Departs from the public code: item features are frozen unless ``train_features``; linear maps start
from Xavier with zero bias unless ``initialization: torch``. Of three or more modalities all spectra
are multiplied, and all graphs enter the edge-wise maximum; of a single one its own are taken.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.graph.adjacency import norm_interactions
from recbole_llm.graph.sparse import largest_entries
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.model.fusion import attention, gate
from recbole_llm.model.initialization import initialize
from recbole_llm.model.loss import info_nce, ranking_loss
from recbole_llm.model.modality_graph import (
    REFINEMENT,
    TRAINED_FEATURES,
    content_view,
    item_features,
    item_graph_operators,
)
from recbole_llm.model.propagation import (
    Operator,
    propagate_mean,
    rows,
    training_adjacency,
    triplet_rows,
)
from recbole_llm.settings.group import MapOf, Optional, Settings
from recbole_llm.settings.run import OVERALL, TRAINING
from recbole_llm.settings.values import Choice, Float, Int


class Views(NamedTuple):
    """Embeddings (N, d) of all nodes, users first: by behaviour, and by content."""

    behaviour: Tensor
    content: Tensor

    @property
    def final(self) -> Tensor:
        """The embeddings (N, d) that items are ranked by."""
        return self.behaviour + self.content


class SMORE(DotProductRecommender):
    """U, I: users, items, each counting padding id 0. N = U + I. B: batch. d: width.

    Config keys: ``embedding_size`` (d), ``n_layers`` (user-item), ``n_item_layers``, ``knn_k``,
    ``modality_knn_k``, ``graph_refinement`` with its three keys (see ``item_graph_operator``),
    ``cl_weight``, ``temperature`` (tau), ``dropout`` of preferences, ``reg_weight``,
    ``train_features``, ``initialization``.
    """

    splits_batches = False  # its loss is taken over the whole batch

    settings = (
        TRAINING
        | REFINEMENT
        | TRAINED_FEATURES
        | OVERALL.pick("lr_schedule")
        | Settings(
            embedding_size=Int(1),
            n_layers=Int(0),
            n_item_layers=Int(0),
            knn_k=Int(1),
            modality_knn_k=Optional(MapOf(Int(1))),
            cl_weight=Float(0),
            temperature=Float(above=0),
            dropout=Float(0, below=1),
            reg_weight=Float(0),
            initialization=Choice("xavier", "torch"),
        )
    )

    input_type = InputType.PAIRWISE
    norm_adj: Tensor  # sparse (N, N), D^-1/2 A D^-1/2, training edges only

    def __init__(self, config: Config, dataset: MultimodalDataset) -> None:
        super().__init__(config, dataset)
        dim, self.n_layers = config["embedding_size"], config["n_layers"]
        self.n_item_layers, self.reg_weight = config["n_item_layers"], config["reg_weight"]
        self.cl_weight, self.temperature = config["cl_weight"], config["temperature"]
        self.user_embedding = nn.Embedding(self.n_users, dim)
        self.item_embedding = nn.Embedding(self.n_items, dim)
        self.features = item_features("SMORE", config, dataset)
        names = self.features.names
        self.project = self.features.linear(dim)
        self.purify = nn.ModuleDict({name: gate(dim) for name in names})
        self.query = nn.ModuleDict({name: attention(dim, dim) for name in names})
        self.prefer = nn.ModuleDict({name: gate(dim) for name in names})
        self.fusion_purify, self.fusion_prefer = gate(dim), gate(dim)
        self.dropout = nn.Dropout(config["dropout"])
        initialize(self, config["initialization"])
        n_filter = dim // 2 + 1
        self.filters = nn.ParameterDict({name: torch.randn(n_filter, 2) for name in names})
        self.fusion_filter = nn.Parameter(torch.randn(n_filter, 2))  # real and imaginary parts
        counts = dict.fromkeys(names, config["knn_k"]) | dict(config["modality_knn_k"] or {})
        self.item_graphs = item_graph_operators(
            config, dataset, self.features, weighted=True, knn_k=counts
        )
        matrices = [graph.get_buffer("matrix") for graph in self.item_graphs.values()]
        self.fusion_graph = Operator(largest_entries(matrices))
        edges = dataset.inter_matrix(form="coo")
        self.user_items = Operator(
            norm_interactions(edges.row, edges.col, self.n_users, self.n_items)
        )
        self.register_buffer("norm_adj", training_adjacency(dataset), persistent=False)

    def spectra(self) -> tuple[dict[str, Tensor], Tensor]:
        """Return each modality's filtered embeddings, and the fused ones, (I, d) each.

        Spectrum modality fusion: a product in the spectrum is a convolution of the embeddings.
        """
        hidden = {name: self.project[name](feature) for name, feature in self.features.items()}
        spectra = {
            name: torch.fft.rfft(h.float(), dim=-1, norm="ortho") for name, h in hidden.items()
        }  # (I, d // 2 + 1) each
        width = self.item_embedding.embedding_dim
        filtered = {name: inverse(s, self.filters[name], width) for name, s in spectra.items()}
        product = torch.stack(list(spectra.values())).prod(dim=0)
        return filtered, inverse(product, self.fusion_filter, width)

    def views(self) -> Views:
        """Return the behaviour view and the content view of all nodes."""
        ids = self.item_embedding.weight
        hidden = torch.cat([self.user_embedding.weight, ids])  # (N, d)
        behaviour = propagate_mean(self.norm_adj, hidden, self.n_layers)  # (N, d)
        filtered, fused = self.spectra()
        fusion = content_view(
            ids * self.fusion_purify(fused), self.n_item_layers, self.fusion_graph, self.user_items
        )
        parts = [self.dropout(self.fusion_prefer(behaviour)) * fusion]
        for name, item_h in filtered.items():
            purified, graph = ids * self.purify[name](item_h), self.item_graphs[name]
            view = content_view(purified, self.n_item_layers, graph, self.user_items)
            # modality-aware preference: the fusion says which columns of the view count
            view = F.softmax(self.query[name](fusion), dim=-1) * view
            parts.append(self.dropout(self.prefer[name](behaviour)) * view)
        return Views(behaviour, torch.stack(parts).mean(dim=0))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return user (U, d) and item (I, d) embeddings."""
        final = self.views().final
        return final[: self.n_users], final[self.n_users :]

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return BPR, L2, and the contrast of content with behaviour, a scalar."""
        user, pos, neg = (interaction[k] for k in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        views = self.views()
        batch_rows = triplet_rows(views.final, self.n_users, user, pos, neg)
        loss = ranking_loss(*batch_rows, self.reg_weight)
        for node in (user, pos + self.n_users):
            anchor, candidates = rows(views.content, node), rows(views.behaviour, node)  # (B, d)
            contrast = info_nce(anchor, candidates, candidates, self.temperature)
            loss = loss + self.cl_weight * contrast
        return loss


def inverse(spectrum: Tensor, weight: Tensor, width: int) -> Tensor:
    """Return the embeddings (I, width) of a spectrum times a complex filter.

    Args:
        spectrum: (I, width // 2 + 1) complex.
        weight: (width // 2 + 1, 2) real and imaginary parts of the filter.
        width: number of columns.
    """
    return torch.fft.irfft(spectrum * torch.view_as_complex(weight), n=width, dim=-1, norm="ortho")
