"""Names of RecBole's quick start, for scripts that were written with them."""

from pathlib import Path
from typing import Any

import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataset.dataset import Dataset
from torch import Tensor

from recbole_llm.config import Config
from recbole_llm.data.loader import FullRankLoader
from recbole_llm.data.loading import build_loaders
from recbole_llm.data.tie_order import tie_order
from recbole_llm.runs.loaded import load
from recbole_llm.trainer.ranking import rank_batch

_Loaded = tuple[Config, Any, Dataset, AbstractDataLoader, AbstractDataLoader, AbstractDataLoader]


def load_data_and_model(model_file: str | Path) -> _Loaded:
    """Return what RecBole's function of this name does, of a finished run.

    Args:
        model_file: the run's folder, its ``record.json``, or its checkpoint
            ``saved/<run>/best.pth`` (the run is then looked up in ``runs/<run>``).

    Returns:
        config, model, dataset, and the loaders of training, validation and test.

    Raises:
        FileNotFoundError, ValueError: see ``recbole_llm.load``.
    """
    path = Path(model_file)
    run = Path("runs") / path.parent.name if path.suffix == ".pth" else path
    loaded = load(run)
    loaders = build_loaders(loaded.config, loaded.split)
    return loaded.config, loaded.model, loaded.split.dataset, *loaders


def full_sort_topk(
    uid_series: Any, model: Any, test_data: FullRankLoader, k: int, device: Any = None
) -> tuple[Tensor, Tensor]:
    """Return scores and internal ids of the best items of users, (n, k) each, best first.

    Args:
        uid_series: (n,) internal user ids, such as ``dataset.token2id`` gives; users of the part.
        model: model from ``load_data_and_model``.
        test_data: loader of the validation or the test part.
        k: number of items a user.
        device: ignored: the model's device is used.

    Raises:
        ValueError: a user has nothing in the part; ``recbole_llm.load(run).recommend`` ranks for
            every user.
    """
    users = torch.as_tensor(uid_series).flatten().tolist()
    if not isinstance(test_data, FullRankLoader) or test_data.is_sequential:
        raise ValueError(
            "this loader does not rank users in full; call recbole_llm.load(run).recommend(users)."
        )
    row_of = {user: row for row, user in enumerate(test_data.row_user.tolist())}
    missing = [user for user in users if user not in row_of]
    if missing:
        raise ValueError(
            f"user id {missing[0]} has nothing in this part; call "
            f"recbole_llm.load(run).recommend(users), which ranks for every user."
        )
    dataset = test_data._dataset
    place = tie_order(dataset.field2id_token[dataset.iid_field])
    batch, hidden, pos_row, pos_item = test_data.collate_fn([row_of[user] for user in users])
    with torch.no_grad():
        batch = batch.to(next(model.parameters()).device)
        scores = model.eval().full_sort_predict(batch).view(len(users), -1)
    items, best, *_ = rank_batch(scores, hidden, pos_row, pos_item, k, place)
    return best, items


def __getattr__(name: str) -> Any:
    instead = {
        "run_recbole": "recbole_llm.run(model, dataset, **settings)",
        "objective_function": "recbole_llm.sweep(spec)",
        "full_sort_scores": "recbole_llm.load(run).recommend(users, k=n_items)",
        "load_data": "recbole_llm.load(run).split",
    }
    if name in instead:
        raise AttributeError(f"recbole_llm.compat_api has no {name!r}; call {instead[name]}.")
    raise AttributeError(f"module 'recbole_llm.compat_api' has no attribute {name!r}")
