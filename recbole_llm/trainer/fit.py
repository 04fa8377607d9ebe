"""One model from its settings to its trained weights, as a run or as a stage of another model."""

import json
import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataset.dataset import Dataset
from recbole.utils import init_seed
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.loading import Loaders, Split, build_loaders
from recbole_llm.model.base import hooks_of
from recbole_llm.processes import same_tensors
from recbole_llm.terminal import shows_bars
from recbole_llm.trainer.harness import HarnessMixin, OnValidation
from recbole_llm.trainer.run_log import FILE_ONLY
from recbole_llm.trainer.trainer import build_trainer

if TYPE_CHECKING:
    from recbole_llm.record import Stage

#: What a stage exports: tensors by name.
StageOutput = dict[str, Tensor]


def fit(
    config: Config,
    split: Split,
    folder: Path,
    resume: bool = False,
    outputs: Mapping[str, StageOutput] | None = None,
    stage: "Stage | None" = None,
    on_validation: OnValidation | None = None,
) -> tuple[HarnessMixin, Loaders]:
    """Build and train one model; its checkpoints go to ``folder``.

    Args:
        config: settings of the model.
        split: dataset and its parts.
        folder: folder of ``best.pth`` and ``last.pth``.
        resume: whether to continue from ``last.pth`` if it exists.
        outputs: outputs of the earlier stages, by name; none for a model without stages.
        stage: entry of the run's record, which gets the parameter counts.
        on_validation: callback after each validation, with the epoch and the ``valid_metric``.

    Returns:
        The trainer, whose model has the weights of the last epoch, and the loaders.
    """
    loaders = build_loaders(config, split)
    init_seed(config["seed"], config["reproducibility"])
    model = build_model(config, split.train, outputs)
    trainable, total = count_parameters(model)
    if stage is not None:
        stage.trainable, stage.parameters = trainable, total
    log = logging.getLogger()
    log.info("%s: %s trainable of %s parameters", config["model"], f"{trainable:,}", f"{total:,}")
    log.info("settings %s", json.dumps(config.to_dict()), extra=FILE_ONLY)
    trainer = build_trainer(config, model)
    trainer.use_folder(folder)
    if resume:
        trainer.resume(loaders.train)
    same_tensors(model.state_dict().values())
    trainer.fit(
        loaders.train,
        loaders.valid,
        saved=True,
        show_progress=shows_bars(config["show_progress"]),
        callback_fn=on_validation,
    )
    return trainer, loaders


def fit_stage(
    config: Config, split: Split, folder: Path, stage: "Stage", with_test: bool = True
) -> StageOutput:
    """Train one stage, or resume its training, and return what it exports.

    Args:
        config: settings of the stage's model.
        split: dataset and its parts.
        folder: folder of the stage's checkpoints.
        stage: entry of the run's record, which gets the parameter counts and the metrics.
        with_test: whether the test part is scored.
    """
    trainer, loaders = fit(config, split, folder, resume=True, stage=stage)
    trainer.load_best()
    for name, loader in evaluated_parts(loaders, with_test):
        stage.metrics[name] = dict(trainer.evaluate(loader, False) or {})
    trainer.model.eval()
    return hooks_of(trainer.model).export()


def build_model(
    config: Config, train: Dataset, outputs: Mapping[str, StageOutput] | None = None
) -> nn.Module:
    """Build the model of these settings on their device, with fresh weights.

    Args:
        config: settings of the model.
        train: training part of the dataset.
        outputs: outputs of the earlier stages, by name; none for a model without stages.

    Raises:
        ValueError: a pre-trained file of one of RecBole's models holds pickled code, or the model
            does not fit into memory.
    """
    arguments = (config, train, outputs) if outputs else (config, train)
    try:
        return config.model_class(*arguments).to(config["device"])
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"model {config['model']}: its pre-trained file holds pickled code and is not loaded. "
            f"Pre-train again with `run_recbole`, whose checkpoints are safe to load."
        ) from error
    except (RuntimeError, MemoryError) as error:
        if "alloc" not in str(error) and not isinstance(
            error, (torch.OutOfMemoryError, MemoryError)
        ):
            raise
        raise ValueError(
            f"model {config['model']} does not fit into memory: {str(error).splitlines()[0]}. "
            f"Lower its sizes, such as embedding_size."
        ) from error


def evaluated_parts(
    loaders: Loaders, with_test: bool = True
) -> list[tuple[str, AbstractDataLoader]]:
    """Return the parts to score by name; test last, if at all."""
    return [("valid", loaders.valid), *([("test", loaders.test)] if with_test else [])]


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return the number of trainable parameters of a model, and of all."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes)
