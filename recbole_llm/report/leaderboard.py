"""Leaderboards over all reports: for each dataset one row a model, chosen by validation."""

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from recbole_llm.report.hidden import hidden_words
from recbole_llm.report.list_check import find_disagreement
from recbole_llm.report.records import Run
from recbole_llm.report.statistics import mean_std
from recbole_llm.settings.fingerprint import VOLATILE_KEYS

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
#: Validation metrics that may choose, the first that all runs of a model have.
_CHOOSING = ("recall@20", "ndcg@20", "recall@10", "ndcg@10")
_Key = tuple[str, str, str, str]


class Entry(NamedTuple):
    """A model on a leaderboard, with the configuration that validation chose.

    Attributes:
        model: name of the model.
        runs: runs of the configuration, one a seed, by seed.
        means: mean and spread over seeds on test, by metric.
        seconds: mean seconds of all trained stages.
        n_configurations: number of configurations that were compared.
    """

    model: str
    runs: list[Run]
    means: dict[str, tuple[float, float | None]]
    seconds: float
    n_configurations: int


class Board(NamedTuple):
    """A leaderboard: runs on one dataset, judged by the same rules.

    Attributes:
        dataset: name of the dataset.
        protocol: evaluation protocol, with the frozen split if there is one.
        hidden: words for what is hidden from the rankings.
        entries: models, the best on test first.
    """

    dataset: str
    protocol: str
    hidden: str
    entries: list[Entry]


def leaderboards(runs: Iterable[Run]) -> tuple[list[Board], list[str]]:
    """Return a board for each dataset, its files, protocol and hidden items; and notes.

    A run without test metrics, with leaky user profiles, or with metrics that are not those of its
    lists is left out; a note counts them. Of each model the configuration with the highest mean on
    validation is shown, whatever its test metrics are.
    """
    groups: dict[_Key, list[Run]] = {}
    left_out = {"have leaky user profiles": 0, "have metrics that their lists contradict": 0}
    for run in runs:
        if not set(METRICS) <= set(run.record.metrics.get("test", {})):
            continue
        if run.leaky:
            left_out["have leaky user profiles"] += 1
        elif find_disagreement(run):
            left_out["have metrics that their lists contradict"] += 1
        else:
            groups.setdefault(_key(run), []).append(run)
    boards = [
        Board(dataset, protocol, hidden, _entries(found))
        for (dataset, protocol, hidden, _), found in sorted(groups.items())
    ]
    notes = [f"Left out, because they {why}: {n}." for why, n in left_out.items() if n]
    return boards, notes


def _key(run: Run) -> _Key:
    record = run.record
    files = record.data.get("files") or {}
    interactions = {name: digest for name, digest in files.items() if name.endswith(".inter")}
    frozen = record.data.get("frozen_split", {}).get("name")
    protocol = f"{record.protocol}, split {frozen}" if frozen else record.protocol
    return record.dataset, protocol, hidden_words(run), json.dumps(interactions, sort_keys=True)


def _entries(runs: Sequence[Run]) -> list[Entry]:
    models: dict[str, list[Run]] = {}
    for run in runs:
        models.setdefault(run.record.model, []).append(run)
    entries = [_best(model, found) for model, found in models.items()]
    return sorted(entries, key=lambda entry: (-entry.means["recall@20"][0], entry.model))


def _best(model: str, runs: Sequence[Run]) -> Entry:
    """Return the configuration of a model with the highest mean on validation."""
    configurations: dict[str, dict[int, Run]] = {}
    for run in sorted(runs, key=lambda run: run.record.started, reverse=True):  # the newest first
        configurations.setdefault(_configuration(run), {}).setdefault(run.record.seed, run)
    valid = [run.record.metrics.get("valid", {}) for run in runs]
    metric = next((name for name in _CHOOSING if all(name in part for part in valid)), None)
    candidates = [[found[seed] for seed in sorted(found)] for found in configurations.values()]
    chosen = max(candidates, key=lambda found: _on_validation(found, metric))
    means = {
        name: mean_std([run.record.metrics["test"][name] for run in chosen]) for name in METRICS
    }
    seconds, _ = mean_std([_seconds(run) for run in chosen])
    return Entry(model, chosen, means, seconds, len(candidates))


def _on_validation(runs: Sequence[Run], metric: str | None) -> tuple[float, int, str]:
    """Return what a configuration is chosen by: its mean, then its seeds, then its first run."""
    mean = 0.0
    if metric is not None:
        mean, _ = mean_std([run.record.metrics["valid"][metric] for run in runs])
    return mean, len(runs), runs[0].record.id


def _configuration(run: Run) -> str:
    """Return the settings of a run without its seed."""
    settings = {k: v for k, v in run.record.config.items() if k not in VOLATILE_KEYS | {"seed"}}
    return json.dumps(settings, sort_keys=True)


def _seconds(run: Run) -> float:
    """Return the seconds of all stages; of one from the cache, those of its training."""
    return sum(
        stage.seconds if stage.cached_from_s is None else stage.cached_from_s
        for stage in run.record.stages
        if stage.name not in ("data", "evaluation")
    )
