"""The embeddings of a finished run: one row a user, one row an item, whose products are scores."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_llm.model.base import hooks_of
from recbole_llm.runs.reload import ReloadedRun
from recbole_llm.runs.scoring import Scorer

#: RecBole's names of its tables of users and items: propagated ones before trained ones.
_TABLES = (("restore_user_e", "restore_item_e"), ("user_embedding", "item_embedding"))
_N_TRIED = 32


class Embeddings(NamedTuple):
    """Embeddings by token.

    Attributes:
        tokens: (n,) tokens of the users or items, padding left out.
        values: (n, d) float32, in the same order.
    """

    tokens: NDArray[np.str_]
    values: NDArray[np.float32]


def embeddings_of(run: ReloadedRun) -> tuple[Embeddings, Embeddings]:
    """Return the embeddings of every user and of every item, whose inner products are the scores.

    Users of a model that reads recent items are read with those of training and validation.

    Raises:
        ValueError: the model does not score by inner products of embeddings.
    """
    dataset = run.split.dataset
    user_emb, item_emb = _pair(run)
    return (
        _by_token(dataset, dataset.uid_field, user_emb),
        _by_token(dataset, dataset.iid_field, item_emb),
    )


def _by_token(dataset: Any, field: str, table: Tensor) -> Embeddings:
    tokens = dataset.field2id_token[field][1:].astype(str)
    return Embeddings(tokens, table[1:].float().cpu().numpy())


def _pair(run: ReloadedRun) -> tuple[Tensor, Tensor]:
    """Return embeddings of users (U, d) and items (I, d), tried on some users.

    Raises:
        ValueError: no pair of tables gives the model's scores.
    """
    scorer = Scorer(run)
    users = torch.arange(1, min(_N_TRIED + 1, run.split.dataset.user_num))
    expected = scorer.users(users)[:, 1:]
    for user_emb, item_emb in _candidates(run, scorer):
        if user_emb.shape[1:] != item_emb.shape[1:]:
            continue
        scores = user_emb[users.to(user_emb.device)] @ item_emb[1:].T
        if torch.allclose(scores.float(), expected.float(), rtol=1e-4, atol=1e-5):
            return user_emb, item_emb
    raise ValueError(
        f"model {run.record.model} does not score by inner products of a user's and an item's "
        f"embedding, so it has no embeddings to give."
    )


@torch.no_grad()
def _candidates(run: ReloadedRun, scorer: Scorer) -> list[tuple[Tensor, Tensor]]:
    hooks = hooks_of(run.model)
    found = []
    exported = hooks.export().get("item_embedding")
    users = torch.arange(run.split.dataset.user_num)
    if exported is not None:
        views = []
        for batch in users.split(run.config["eval_users"]):
            views.append(hooks.user_views(scorer.interaction(batch).to(scorer.device)))
        if all(list(view) == [""] for view in views):
            found.append((torch.cat([view[""] for view in views]), exported.to(scorer.device)))
    for names in _TABLES:
        tables = [getattr(run.model, name, None) for name in names]
        user_emb, item_emb = (getattr(table, "weight", table) for table in tables)
        if isinstance(user_emb, Tensor) and isinstance(item_emb, Tensor):
            found.append((user_emb.detach(), item_emb.detach()))
    return found
