"""Items' content in graphs: frozen features, item-item graphs, propagation of a modality."""

import logging
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.data.tie_order import tie_order
from recbole_llm.graph.adjacency import knn_norm_adj
from recbole_llm.graph.knn import KnnGraph, knn_graph
from recbole_llm.graph.refine import cooccurrence_graph, refined_adj, semantic_graph
from recbole_llm.graph.sparse import spmm
from recbole_llm.model.propagation import Operator, user_mean_matrix
from recbole_llm.settings.group import Settings
from recbole_llm.settings.values import Bool, Float, Int

#: Settings of ``item_graph_operator``, ``knn_k`` apart.
REFINEMENT = Settings(
    graph_refinement=Bool(),
    semantic_k=Int(1),
    similarity_threshold=Float(),
    cooccurrence_k=Int(1),
)

#: Setting of ``item_features``.
TRAINED_FEATURES = Settings(train_features=Bool())


class FrozenFeatures(nn.Module):
    """The features (I, F_m) of a dataset's modalities by name, float32, row 0 zero, not trained.

    Args:
        model: name of the model, for the error.
        dataset: dataset that names at least one modality.

    Raises:
        ValueError: the dataset names no modality.
    """

    def __init__(self, model: str, dataset: MultimodalDataset) -> None:
        super().__init__()
        self.names = modality_names(model, dataset)
        for name in self.names:
            self.register_buffer(f"{name}_feature", dataset.modality(name), persistent=False)

    def __getitem__(self, name: str) -> Tensor:
        return self.get_buffer(f"{name}_feature")

    def __len__(self) -> int:
        """Return the number of modalities."""
        return len(self.names)

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Yield each modality's name and features."""
        return ((name, self[name]) for name in self.names)

    def linear(self, width: int, bias: bool = True) -> nn.ModuleDict:
        """Return a new linear map F_m -> ``width``, with or without bias, for each modality."""
        maps = {name: nn.Linear(x.size(1), width, bias=bias) for name, x in self.items()}
        return nn.ModuleDict(maps)


class TrainedFeatures(FrozenFeatures):
    """The features of a dataset's modalities as starting values of weights that are trained.

    MMRec's code has them in BM3, FREEDOM, LATTICE and MGCN. Item-item graphs are those of the
    starting values.
    """

    def __init__(self, model: str, dataset: MultimodalDataset) -> None:
        super().__init__(model, dataset)
        for name in self.names:
            feature = self.get_buffer(f"{name}_feature").clone()
            delattr(self, f"{name}_feature")
            self.register_parameter(f"{name}_feature", nn.Parameter(feature))

    def __getitem__(self, name: str) -> Tensor:
        return self.get_parameter(f"{name}_feature")


def item_features(model: str, config: Config, dataset: MultimodalDataset) -> FrozenFeatures:
    """Return a dataset's features, trained if ``train_features`` says so.

    Args:
        model: name of the model, for the error.
        config: settings, of which ``train_features`` is read.
        dataset: dataset that names at least one modality.

    Raises:
        ValueError: the dataset names no modality.
    """
    return (TrainedFeatures if config["train_features"] else FrozenFeatures)(model, dataset)


def modality_names(
    model: str, dataset: MultimodalDataset, otherwise: str = "choose a model without them"
) -> list[str]:
    """Return the names of a dataset's modalities, of which a model needs at least one.

    Args:
        model: name of the model, for the error.
        dataset: dataset to ask.
        otherwise: advice to users who cannot add a modality, for the error.

    Raises:
        ValueError: the dataset names no modality.
    """
    if not dataset.modality_names:
        raise ValueError(
            f"{model} needs item features, and dataset {dataset.dataset_name!r} names no modality. "
            f"Add `modalities` to its YAML, such as {{text: text_feat.npy}}, or {otherwise}."
        )
    return dataset.modality_names


def nearest_items(dataset: MultimodalDataset, feature: Tensor, k: int) -> KnnGraph:
    """Return each item's ``k`` nearest by cosine, itself the first; warn if features are equal.

    Which of several items with equal features are neighbours is decided by ``tie_order``.

    Args:
        dataset: dataset of the items.
        feature: (I, F) floating point, row 0 padding.
        k: neighbours an item, the item included.

    Raises:
        ValueError: ``k`` is out of range, or ``feature`` holds NaN or infinity.
    """
    graph = knn_graph(feature.detach(), k, include_self=True, tie_order=item_order(dataset))
    warn_of_copies(graph, feature)
    return graph


def item_order(dataset: MultimodalDataset) -> Tensor:
    """Return the order (I,) of items that are equally near: that of a hash of their tokens."""
    return tie_order(dataset.field2id_token[dataset.iid_field])


def warn_of_copies(graph: KnnGraph, feature: Tensor) -> None:
    """Warn of items with equal features, among which the graph's neighbours are arbitrary."""
    if graph.n_copies:
        logging.getLogger().warning(
            f"{graph.n_copies:,} of {len(feature) - 1:,} items have the features of another item "
            f"({feature.size(1)} columns of one direction): which of them are neighbours is "
            f"decided by a hash of the item token."
        )


def item_graph_operator(
    config: Config,
    dataset: MultimodalDataset,
    feature: Tensor,
    *,
    weighted: bool,
    knn_k: int | None = None,
) -> Operator:
    """Return the frozen propagation over an item-item graph of one modality.

    An item's ``knn_k`` nearest items, itself the first of them, under symmetric normalisation of
    0/1 edges, or of cosines if ``weighted``. That an item is its own neighbour is what the public
    code of LATTICE, FREEDOM and MGCN does; their papers do not say. With ``graph_refinement`` it is
    MLLMRec's refined graph instead: ``semantic_k`` nearest items of a cosine of at least
    ``similarity_threshold``, and ``cooccurrence_k`` items of the most similar training audience.

    Args:
        config: settings, of which the five keys named here are read.
        dataset: training part.
        feature: (I, F_m) float32, row 0 padding.
        weighted: whether edges weigh their cosine; without effect on the refined graph.
        knn_k: number of neighbours of this modality; None: the setting ``knn_k``.

    Raises:
        ValueError: a number of neighbours is out of range, or ``feature`` holds NaN or infinity.
    """
    knn_k = knn_k or config["knn_k"]
    refinement = [config[key] for key in ("semantic_k", "similarity_threshold", "cooccurrence_k")]
    if not config["graph_refinement"]:
        graph = nearest_items(dataset, feature, knn_k)
        return Operator(knn_norm_adj(graph, len(feature), weighted=weighted))
    return Operator(refined_item_adj(dataset, feature, *refinement))


def item_graph_operators(
    config: Config,
    dataset: MultimodalDataset,
    features: FrozenFeatures,
    *,
    weighted: bool,
    knn_k: Mapping[str, int] | None = None,
) -> nn.ModuleDict:
    """Return each modality's ``item_graph_operator`` (I, I), by name.

    Args:
        config: settings, of which ``item_graph_operator`` names the five that are read.
        dataset: training part.
        features: frozen features (I, F_m) of the modalities.
        weighted: whether edges weigh their cosine; without effect on the refined graph.
        knn_k: number of neighbours of each modality by name; None: the setting of all.

    Raises:
        ValueError: a number of neighbours is out of range, or a feature is NaN or infinite.
    """
    counts = knn_k or {}
    return nn.ModuleDict(
        {
            name: item_graph_operator(
                config, dataset, feature, weighted=weighted, knn_k=counts.get(name)
            )
            for name, feature in features.items()
        }
    )


def refined_item_adj(
    dataset: MultimodalDataset,
    feature: Tensor,
    semantic_k: int,
    threshold: float | None,
    cooccurrence_k: int | None,
) -> Tensor:
    """Return MLLMRec's refined item-item graph (I, I), sparse CSR (its eq. 7 to 11).

    Args:
        dataset: training part, whose interactions make the audiences.
        feature: (I, F) float32, row 0 padding.
        semantic_k: number K_s of nearest items, the item itself included.
        threshold: least cosine alpha of an edge; None leaves out the denoising.
        cooccurrence_k: number K_c of items of similar audience; None leaves the audiences out.

    Raises:
        ValueError: a number of neighbours is out of range, or ``feature`` holds NaN or infinity.
    """
    audience, order = None, item_order(dataset)
    if cooccurrence_k is not None:
        edges = dataset.inter_matrix(form="coo")
        audience = cooccurrence_graph(
            edges.row,
            edges.col,
            dataset.user_num,
            dataset.item_num,
            cooccurrence_k,
            tie_order=order,
        )
    semantic = semantic_graph(feature.detach(), semantic_k, threshold, order)
    warn_of_copies(semantic, feature)
    return refined_adj(semantic, audience, len(feature))


def content_view(
    item_h: Tensor, n_layers: int, item_graph: nn.Module, user_items: nn.Module
) -> Tensor:
    """Return a view of all nodes (N, d) by content: MGCN's, GUME's and SMORE's have this form.

    Args:
        item_h: (I, d) items, such as id embeddings that content gates.
        n_layers: number of layers over the item-item graph, >= 0.
        item_graph: operator (I, I).
        user_items: operator (U, I) by which users receive the propagated embeddings of their items.
    """
    for _ in range(n_layers):
        item_h = item_graph(item_h)
    return torch.cat([user_items(item_h), item_h])


class ModalityPropagation(nn.Module):
    """One modality's user and item embeddings by propagation over the user-item graph.

    A user starts as the mean of the projected features of their items, and the last layer is the
    result. Guo et al., "LGMRec", AAAI 2024, arXiv:2312.16400, section "Modality Graph Embedding";
    SRGFormer takes it over.

    Args:
        dataset: training part.
        n_layers: number of layers, >= 0.
    """

    def __init__(self, dataset: MultimodalDataset, n_layers: int) -> None:
        super().__init__()
        self.n_layers = n_layers
        self.user_mean = Operator(user_mean_matrix(dataset))

    def forward(self, item_feature: Tensor, norm_adj: Tensor) -> Tensor:
        """Return (N, d) from projected item features (I, d), row 0 zero."""
        hidden = torch.cat([self.user_mean(item_feature), item_feature])
        for _ in range(self.n_layers):
            hidden = spmm(norm_adj, hidden, norm_adj)
        return hidden
