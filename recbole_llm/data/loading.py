"""From settings to data: the dataset, its three parts, and the loaders of a model."""

from pathlib import Path
from typing import Any, NamedTuple

import recbole.data.dataset
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataset.dataset import Dataset
from recbole.data.utils import create_samplers, get_dataloader
from recbole.sampler import KGSampler
from recbole.utils import ModelType, init_seed

from recbole_llm.config import Config
from recbole_llm.data.catalog import available_datasets
from recbole_llm.data.dataset import MultimodalDataset, MultimodalSequentialDataset
from recbole_llm.data.loader import FullRankLoader
from recbole_llm.registry import suggest


class Split(NamedTuple):
    """A data set and its three parts."""

    dataset: Dataset
    train: Dataset
    valid: Dataset
    test: Dataset


class Loaders(NamedTuple):
    """What the trainer iterates over; an empty part is an empty loader."""

    train: AbstractDataLoader
    valid: AbstractDataLoader
    test: AbstractDataLoader


def load_split(config: Config) -> Split:
    """Load a data set and split it; the same seed gives the split that RecBole gives."""
    init_seed(config["seed"], config["reproducibility"])
    special = getattr(recbole.data.dataset, f"{config['model']}Dataset", None)
    ours = {
        ModelType.SEQUENTIAL: MultimodalSequentialDataset,
        ModelType.KNOWLEDGE: recbole.data.dataset.KnowledgeBasedDataset,
    }.get(config["MODEL_TYPE"], MultimodalDataset)
    if config["split"] is not None and not issubclass(special or ours, MultimodalDataset):
        raise ValueError(
            f"model {config['model']} reads its data by RecBole's {(special or ours).__name__}, "
            f"which takes no frozen split. Leave out --split, or choose another model."
        )
    try:
        dataset = (special or ours)(config)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}{_near_datasets(config)}") from error
    return Split(dataset, *dataset.build())


def _near_datasets(config: Config) -> str:
    """Return what to say of a data set whose folder is not there: the nearest name, the list."""
    folder = Path(config["data_path"])
    if folder.is_dir():
        return ""
    names = [entry.name for entry in available_datasets(folder.parent)]
    near = suggest(folder.name, [name for name in names if name != folder.name])
    return f"\n   {near} `run_recbole --list-datasets` lists the data sets at hand."


def build_loaders(config: Config, split: Split) -> Loaders:
    """Build the loaders of a model: its own ``train_loader``, or RecBole's for its type."""
    model_class = config.model_class
    parts = list(split[1:])
    train_sampler, valid_sampler, test_sampler = create_samplers(config, split.dataset, parts)
    loader_class = getattr(model_class, "train_loader", None) or get_dataloader(config, "train")
    extra: tuple[Any, ...] = ()
    if config["MODEL_TYPE"] == ModelType.KNOWLEDGE:
        args = config["train_neg_sample_args"]
        extra = (KGSampler(split.dataset, args["distribution"], args["alpha"]),)
    train = loader_class(
        config, split.train, train_sampler, *extra, shuffle=bool(config["shuffle"] or extra)
    )
    evaluated = []
    for phase, part, sampler, history in (
        ("valid", split.valid, valid_sampler, [split.train]),
        ("test", split.test, test_sampler, [split.train, split.valid]),
    ):
        if config["eval_args"]["mode"][phase] == "full":
            with_sequence = getattr(model_class, "needs_history", False)
            evaluated.append(FullRankLoader(config, part, history, with_sequence))
        else:
            evaluated.append(get_dataloader(config, phase)(config, part, sampler, shuffle=False))
    return Loaders(train, *evaluated)
