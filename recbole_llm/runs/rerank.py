"""A run's saved weights rank again, and the lists are compared with those that the run kept."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from recbole_llm.data.loading import build_loaders
from recbole_llm.runs.rankings import UserRanking, rankings_of
from recbole_llm.runs.reload import load_run
from recbole_llm.trainer.trainer import build_trainer

# Scores of another machine, or another number of threads, differ by their rounding.
_RELATIVE, _ABSOLUTE = 1e-4, 1e-6


def rank_again(
    run: str | Path, data_path: str | None, kept: Mapping[str, Sequence[UserRanking]]
) -> Iterator[tuple[str, bool]]:
    """Rank every item with the weights that validation chose, and compare the lists.

    Args:
        run: a run's folder, or its ``record.json``.
        data_path: parent of the dataset's folder, if it is not where the run found it.
        kept: lists of the run, by part.

    Yields:
        A text for each part, and whether all its lists are the same.

    Raises:
        FileNotFoundError, ValueError: the run cannot be loaded; see ``load_run``.
    """
    loaded = load_run(run, data_path)
    longest = max(len(ranking.items) for rankings in kept.values() for ranking in rankings)
    loaded.config["save_topk"] = longest
    loaders = build_loaders(loaded.config, loaded.split)
    trainer = build_trainer(loaded.config, loaded.model)
    trainer.eval_collector.data_collect(loaders.train)
    for part, rankings in kept.items():
        trainer.evaluate(getattr(loaders, part), load_best_model=False)
        if trainer.ranking is None:
            raise ValueError(f"run {loaded.record.id}: its {part} part is not ranked in full.")
        again = _by_user(rankings_of(loaded.split.dataset, trainer.ranking))
        n_differing = sum(
            user not in again or not same_ranking(ranking, again[user])
            for user, ranking in _by_user(rankings).items()
        )
        if n_differing:
            text = f"{n_differing} of {len(rankings)} lists are not those of the weights  DIFFERS"
        else:
            text = f"the weights give all {len(rankings)} lists again"
        yield f"{part} lists from the checkpoint: {text}", not n_differing


def same_ranking(kept: UserRanking, again: UserRanking) -> bool:
    """Return whether a kept list is a beginning of the list that the weights give.

    Items whose scores are equal within their rounding may be swapped.
    """
    scores = dict(zip(again.items, again.scores or [], strict=True))
    if len(kept.items) > len(again.items):
        return False
    for rank, (item, expected) in enumerate(zip(kept.items, again.items, strict=False)):
        if item != expected and not _is_close(scores.get(item, math.nan), scores[expected]):
            return False
        if kept.scores is not None and not _is_close(kept.scores[rank], scores[expected]):
            return False
    return True


def _is_close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)


def _by_user(rankings: Iterable[UserRanking]) -> dict[tuple[str, int], UserRanking]:
    """Return lists by user and by their number among the lists of that user."""
    found: dict[tuple[str, int], UserRanking] = {}
    counts: dict[str, int] = {}
    for ranking in rankings:
        number = counts.get(ranking.user, 0)
        counts[ranking.user] = number + 1
        found[ranking.user, number] = ranking
    return found
