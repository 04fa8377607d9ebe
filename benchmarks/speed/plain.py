"""What the plain references of ``freedom.py`` and ``srgformer.py`` share.

A plain reference is the model as research code usually has it: COO matrices and
``torch.sparse.mm``, item features that are trained with the rest, all items projected in every
step, one Adam over everything. It computes the same loss.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import (
    SIZES,
    First,
    Report,
    Times,
    alternate,
    data_settings,
    make_config,
    make_split,
    scratch,
    train_step,
    write_features,
)
from recbole.utils import init_seed
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.data.loading import Split, build_loaders
from recbole_llm.trainer.trainer import build_trainer

THEIRS, OURS = "plain", "recbole-llm"
DIMS = {"image": 4096, "text": 384}  # widths of the generated modalities
_SAME_NAMES = "user_embedding", "item_embedding", "project"  # in both, with the same shapes


class Side(NamedTuple):
    """One implementation, ready to train."""

    model: Any
    optimizer: torch.optim.Optimizer


# -- pieces of a plain model -------------------------------------------------------------------


def coo_matrix(row: Tensor, col: Tensor, value: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return a sparse COO matrix, coalesced."""
    index = torch.stack([row, col])
    return torch.sparse_coo_tensor(index, value, shape, check_invariants=False).coalesce()


def training_edges(dataset: MultimodalDataset) -> tuple[Tensor, Tensor]:
    """Return the distinct interactions of the training part: users (E,) and items (E,)."""
    edges = dataset.inter_matrix(form="coo")
    pairs = torch.stack([torch.tensor(edges.row).long(), torch.tensor(edges.col).long()])
    user, item = pairs.unique(dim=1)
    return user, item


def bipartite_coo(user: Tensor, item: Tensor, n_users: int, n_items: int) -> Tensor:
    """Return D^-1/2 A D^-1/2 (N, N) of the user-item graph, users first."""
    n_nodes = n_users + n_items
    row = torch.cat([user, item + n_users])
    col = torch.cat([item + n_users, user])
    scale = (torch.bincount(row, minlength=n_nodes) + 1e-7).pow(-0.5)  # (N,)
    return coo_matrix(row, col, (scale[row] * scale[col]).float(), (n_nodes, n_nodes))


class PlainRecommender(nn.Module):
    """ID embeddings, trained features, and a linear map of each; U, I, d as in the models."""

    def __init__(self, dim: int, dataset: MultimodalDataset, bias: bool) -> None:
        super().__init__()
        self.n_users, self.n_items = dataset.user_num, dataset.item_num
        self.user_embedding = nn.Embedding(self.n_users, dim)
        self.item_embedding = nn.Embedding(self.n_items, dim)
        self.feature = nn.ModuleDict(
            {
                # a copy: ours are shared by the parts of the data set, and frozen
                name: nn.Embedding.from_pretrained(dataset.modality(name).clone(), freeze=False)
                for name in dataset.modality_names
            }
        )
        self.project = nn.ModuleDict(
            {name: nn.Linear(x.embedding_dim, dim, bias=bias) for name, x in self.feature.items()}
        )

    def copy_weights(self, ours: nn.Module) -> None:
        """Take over what both sides have under the same name; the features are equal already."""
        for name in _SAME_NAMES:
            getattr(self, name).load_state_dict(getattr(ours, name).state_dict())


def bpr(user: Tensor, pos: Tensor, neg: Tensor) -> Tensor:
    """Return the mean BPR loss of embeddings (B, d)."""
    difference = (user * pos).sum(dim=1) - (user * neg).sum(dim=1)
    return -torch.nn.functional.logsigmoid(difference).mean()


# -- comparison --------------------------------------------------------------------------------


def feature_settings(
    arguments: argparse.Namespace, folder: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what ``data_settings`` does, with features for a generated data set; Baby only."""
    arguments.dataset = arguments.dataset or ["baby"]
    for (label, settings), name in zip(
        data_settings(arguments, folder), arguments.dataset, strict=True
    ):
        if arguments.data_path is None:
            place = folder / settings["dataset"]
            settings = settings | write_features(place, SIZES[name].n_items, DIMS)
        yield label, settings


def build_sides(
    settings: dict[str, Any],
    name: str,
    plain: Callable[[Config, MultimodalDataset], PlainRecommender],
) -> tuple[Config, Split, dict[str, int], dict[str, Side]]:
    """Return the data and both sides with the same weights."""
    config = make_config(name, settings)
    split, size = make_split(config)
    size |= {f"{m}_dim": split.dataset.modality(m).size(1) for m in split.dataset.modality_names}
    init_seed(config["seed"], config["reproducibility"])
    ours = config.model_class(config, split.train)
    theirs = plain(config, split.train)
    with torch.no_grad():
        theirs.copy_weights(ours)
    sides = {
        THEIRS: Side(theirs, torch.optim.Adam(theirs.parameters(), lr=config["learning_rate"])),
        OURS: Side(ours, build_trainer(config, ours).optimizer),
    }
    return config, split, size, sides


def check_first_step(
    report: Report, label: str, sides: dict[str, Side], batch: Any, limit: float
) -> None:
    """Compare the first loss, relative to its size, and the gradients of what both sides train."""
    losses: list[float] = []
    gradients: list[dict[str, Tensor]] = []
    for side in sides.values():
        side.model.train()
        loss = side.model.calculate_loss(batch)
        loss.backward()
        losses.append(loss.item())
        # of a bias that every item gets alike, BPR's gradient is 0 and only rounding is left
        shared = (p for p in side.model.named_parameters() if p[0].startswith(_SAME_NAMES))
        gradients.append({name: p.grad for name, p in shared if name.endswith("weight")})
        side.optimizer.zero_grad()
    gap = abs(losses[0] - losses[1]) / max(1.0, abs(losses[0]))
    report.check(f"{label}: difference of the first loss ({losses[0]:.6f})", gap, limit)
    theirs, ours = gradients
    gap = max(float((theirs[name] - ours[name]).norm() / theirs[name].norm()) for name in ours)
    what = f"relative difference of a gradient, the worst of {len(ours)} tables and maps"
    report.check(f"{label}: {what}", gap, 1e-3)


def time_epochs(
    report: Report,
    label: str,
    sides: dict[str, Side],
    loader: Any,
    arguments: argparse.Namespace,
    target: float | None,
) -> None:
    """Time the first batches, scaled to all, and what a model does once an epoch; add a row."""
    n_rows, batch_size = loader.sample_size, loader.step
    first = First(loader, arguments.batches)
    runs: dict[str, Callable[[], Any]] = {}
    scale: dict[str, float] = {}
    for name, side in sides.items():
        runs[name] = lambda side=side: train(side, first)
        scale[name] = n_rows / min(len(first) * batch_size, n_rows)
    for name, side in sides.items():
        if hasattr(side.model, "begin_epoch"):
            runs[f"{name}, once an epoch"] = side.model.begin_epoch
    times = alternate(runs, arguments.repeats, scale)
    epochs = []
    for name in sides:
        once = times.get(f"{name}, once an epoch")
        parts = [times[name]] if once is None else [times[name], once]
        wall = [sum(seconds) for seconds in zip(*(part.wall for part in parts), strict=True)]
        cpu = [sum(seconds) for seconds in zip(*(part.cpu for part in parts), strict=True)]
        epochs.append(Times(wall, cpu))
    report.compare(label, "training epoch", *epochs, target)


def train(side: Side, first: First) -> None:
    """Train on the first batches of an epoch, the same ones in every call."""
    init_seed(0, reproducibility=True)  # of the sampler of negatives
    first.loader.generator.manual_seed(0)
    side.model.train()
    for batch in first:
        train_step(side.model, side.optimizer, batch)


def run(
    report: Report,
    arguments: argparse.Namespace,
    name: str,
    plain: Callable[[Config, MultimodalDataset], PlainRecommender],
    settings: dict[str, Any],
    check: Callable[[str, dict[str, Side], Any], None],
    target: float,
) -> None:
    """Check and time one model on every data set; the target is for Baby's size."""
    with scratch() as folder:
        for label, data in feature_settings(arguments, folder):
            config, split, size, sides = build_sides(data | settings, name, plain)
            report.data(label, size)
            loader = build_loaders(config, split).train
            check(label, sides, next(iter(loader)))
            time_epochs(
                report, label, sides, loader, arguments, target if "baby" in label else None
            )
    report.finish()
