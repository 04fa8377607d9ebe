"""Datasets and their parts as the settings choose them, and the loaders of a model."""

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
from recbole_llm.registry import get_hooks, suggest


class Split(NamedTuple):
    """A dataset and its three parts."""

    dataset: Dataset
    train: Dataset
    valid: Dataset
    test: Dataset


class Loaders(NamedTuple):
    """Loaders of the three parts; that of an empty part is empty."""

    train: AbstractDataLoader
    valid: AbstractDataLoader
    test: AbstractDataLoader


def load_split(config: Config) -> Split:
    """Load a dataset and split it; the same seed gives the split that RecBole gives.

    Raises:
        FileNotFoundError: a file of the dataset is missing.
        ValueError: a file or a setting of the data is wrong; or a frozen split is asked of a
            dataset class of RecBole's that takes none.
    """
    init_seed(config["seed"], config["reproducibility"])
    dataset_class = _dataset_class(config)
    if config["split"] is not None and not issubclass(dataset_class, MultimodalDataset):
        raise ValueError(
            f"model {config['model']} reads its data by RecBole's {dataset_class.__name__}, "
            f"which takes no frozen split. Leave out --split, or choose another model."
        )
    try:
        dataset = dataset_class(config)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}{_available(config)}") from error
    return Split(dataset, *dataset.build())


def _dataset_class(config: Config) -> type[Dataset]:
    """Return RecBole's own class where it has one for the model or its type, else one of ours."""
    of_model = vars(recbole.data.dataset).get(f"{config['model']}Dataset")
    of_type = {
        ModelType.SEQUENTIAL: MultimodalSequentialDataset,
        ModelType.KNOWLEDGE: recbole.data.dataset.KnowledgeBasedDataset,
    }
    return of_model or of_type.get(config["MODEL_TYPE"], MultimodalDataset)


def _available(config: Config) -> str:
    """Return a hint for a dataset whose folder is missing: the nearest name, and the list."""
    folder = Path(config["data_path"])
    if folder.is_dir():
        return ""
    names = [entry.name for entry in available_datasets(folder.parent)]
    near = suggest(folder.name, [name for name in names if name != folder.name])
    return f"\n   {near} `run_recbole --list-datasets` lists the available datasets."


def build_loaders(config: Config, split: Split) -> Loaders:
    """Build the loaders of a model: its own ``train_loader``, or RecBole's for its type.

    Evaluation on all items goes through ``FullRankLoader``, other modes through RecBole's loaders.
    """
    hooks = get_hooks(config.model_class)
    parts = list(split[1:])
    # The first of the two data sets is the one that popularity is counted in.
    train_sampler, valid_sampler, test_sampler = create_samplers(config, split.train, parts)
    train_class = hooks.train_loader or get_dataloader(config, "train")
    extra: tuple[Any, ...] = ()
    if config["MODEL_TYPE"] == ModelType.KNOWLEDGE:
        args = config["train_neg_sample_args"]
        extra = (KGSampler(split.dataset, args["distribution"], args["alpha"]),)
    train = train_class(
        config, split.train, train_sampler, *extra, shuffle=bool(config["shuffle"] or extra)
    )
    evaluated = []
    for phase, part, sampler, history in (
        ("valid", split.valid, valid_sampler, [split.train]),
        ("test", split.test, test_sampler, [split.train, split.valid]),
    ):
        if config["eval_args"]["mode"][phase] == "full":
            evaluated.append(FullRankLoader(config, part, history, hooks.needs_history))
        else:
            evaluated.append(get_dataloader(config, phase)(config, part, sampler, shuffle=False))
    return Loaders(train, *evaluated)
