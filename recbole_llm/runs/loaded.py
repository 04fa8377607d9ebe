"""A finished run in Python: recommend, read embeddings, evaluate again."""

import html
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from recbole_llm.data.loading import build_loaders
from recbole_llm.runs.embeddings import Embeddings, embeddings_of
from recbole_llm.runs.recommend import Recommender
from recbole_llm.runs.reload import ReloadedRun, load_run
from recbole_llm.trainer.fit import evaluated_parts
from recbole_llm.trainer.trainer import build_trainer


class LoadedRun(ReloadedRun):
    """A finished run: ``record``, ``config``, ``split`` (dataset and parts) and ``model``."""

    __slots__ = ()

    def recommend(
        self,
        users: Sequence[str] | None = None,
        *,
        histories: Sequence[Sequence[str]] | None = None,
        k: int = 10,
        hide: str = "known",
    ) -> pd.DataFrame:
        """Return the best items of users, or of new users by histories.

        Args:
            users: tokens of users of the dataset; None (without ``histories``): all of them.
            histories: tokens of items, oldest first, one list a new user.
            k: number of items a user.
            hide: items that are left out: ``known`` (of the training and validation part, or of
                the history), ``all`` (those of the test part too) or ``none``.

        Returns:
            Columns ``user``, ``rank``, ``item``, ``title`` (where the dataset has one), ``score``.

        Raises:
            ValueError: a token is unknown, both ``users`` and ``histories`` are given, or the
                model cannot rank for new users.
        """
        if users is not None and histories is not None:
            raise ValueError("give users or histories, not both.")
        if isinstance(users, str):
            raise ValueError(f"users must be a list of tokens, got the text {users!r}.")
        recommender = Recommender(self, hide)
        if histories is not None:
            return recommender.for_histories(histories, k)
        return recommender.for_users(users, k)

    def user_embeddings(self) -> Embeddings:
        """Return tokens (U - 1,) and embeddings (U - 1, d) float32 of all users.

        Raises:
            ValueError: the model does not score by inner products of embeddings.
        """
        return embeddings_of(self)[0]

    def item_embeddings(self) -> Embeddings:
        """Return tokens (I - 1,) and embeddings (I - 1, d) float32 of all items.

        Raises:
            ValueError: the model does not score by inner products of embeddings.
        """
        return embeddings_of(self)[1]

    def evaluate(self, part: str = "test") -> dict[str, float]:
        """Return the metrics of a part, ``valid`` or ``test``, measured again with these weights.

        Raises:
            ValueError: there is no such part, or it is empty.
        """
        loaders = build_loaders(self.config, self.split)
        parts = dict(evaluated_parts(loaders))
        if part not in parts:
            raise ValueError(f"part must be one of {', '.join(parts)}, got {part!r}.")
        trainer = build_trainer(self.config, self.model)
        trainer.eval_collector.data_collect(loaders.train)
        metrics = trainer.evaluate(parts[part], load_best_model=False)
        if metrics is None:
            raise ValueError(f"run {self.record.id}: its {part} part is empty.")
        return dict(metrics)

    def __repr__(self) -> str:
        record = self.record
        metrics = "  ".join(f"{k} {v:.4f}" for k, v in record.metrics.get("test", {}).items())
        return f"<{record.model} on {record.dataset} ({record.protocol}): {metrics or record.id}>"

    def _repr_html_(self) -> str:
        record = self.record
        head = f"{record.model} on {record.dataset} ({record.protocol}, seed {record.seed})"
        table = pd.DataFrame(record.metrics).T.to_html(float_format=lambda x: f"{x:.4f}")
        return f"<p><b>{html.escape(head)}</b><br>{html.escape(record.id)}</p>{table}"


def load(run: str | Path, data_path: str | None = None) -> LoadedRun:
    """Load a finished run: its record, settings, data and trained model.

    Args:
        run: a run's folder, or its ``record.json``.
        data_path: parent of the dataset's folder, if it is not where the run found it.

    Raises:
        FileNotFoundError: the record, the checkpoint, a stage's output or the data is missing.
        ValueError: the run did not finish, its data has changed, or this version cannot build it.
    """
    return LoadedRun(*load_run(run, data_path))
