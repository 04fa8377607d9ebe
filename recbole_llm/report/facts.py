"""How the numbers of a report were made: protocol, selection, search, dates, code, versions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recbole_llm.report.comparability import shortened
from recbole_llm.report.hidden import hidden_words
from recbole_llm.report.records import Run
from recbole_llm.report.text import short_metric
from recbole_llm.sweep.sampler import SAMPLERS
from recbole_llm.sweep.spec import Spec

_PROTOCOLS = {
    "loo": "leave one out: each user's last interaction tests, the one before validates",
    "random811": "8:1:1 of each user's interactions, at random by the seed",
    "fixed": "the split that the data comes with",
}


def facts(spec: Spec, runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return names and texts for the set-up of a report; without runs, only what the spec says.

    Args:
        spec: experiment.
        runs: the runs whose numbers are shown.
    """
    found = [
        ("Protocol", _each(_protocol(run) for run in runs) or spec.protocol or ""),
        ("Candidates", "all items" if runs else ""),
        ("Hidden from the rankings", _each(hidden_words(run) for run in runs)),
        ("Selection", f"epoch and configuration by {_selection(spec, runs)} on validation"),
        ("Search", search_text(spec)),
        ("Seeds", ", ".join(map(str, spec.seeds))),
        ("Runs", _dates(runs)),
        ("Commit", _each(str(run.record.environment.get("git_commit") or "") for run in runs)),
        ("Versions", _versions(runs)),
        ("Device", _each(_device(run.record.environment) for run in runs)),
    ]
    return [(name, text) for name, text in found if text]


def search_text(spec: Spec) -> str:
    """Return how rows are tuned and within which budget, as words."""
    search = spec.search
    if search is None:
        n_points = len(spec.grid)
        return "none" if spec.grid == ({},) else f"none; {n_points} points of a grid, all shown"
    trials = sorted({row.n_trials or search.n_trials or 0 for row in spec.rows if row.space})
    parts = [search.sampler, f"seed {search.seed}"]
    if SAMPLERS[search.sampler].build is not None:
        parts.append(f"{' or '.join(map(str, trials))} trials a row and dataset")
    if search.timeout_s is not None:
        parts.append(f"at most {search.timeout_s:g} s a row")
    return ", ".join([*parts, f"pruner {search.pruner}"])


def _each(texts: Iterable[str]) -> str:
    return shortened(text for text in texts if text)


def _protocol(run: Run) -> str:
    name = run.record.protocol
    frozen = run.record.data.get("frozen_split")
    words = f"frozen split {frozen['name']}" if frozen else _PROTOCOLS.get(name, "")
    return f"{name} ({words})" if words else name


def _selection(spec: Spec, runs: Sequence[Run]) -> str:
    metrics = [str(run.record.config.get("valid_metric") or spec.metric) for run in runs]
    return _each(short_metric(metric.lower()) for metric in metrics or [spec.metric])


def _dates(runs: Sequence[Run]) -> str:
    days = sorted(run.record.started[:10] for run in runs)
    if not days:
        return ""
    span = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return f"{len(runs)}, started {span}"


def _versions(runs: Sequence[Run]) -> str:
    """Return the version of each library, or the versions where runs differ."""
    versions: dict[str, dict[str, None]] = {}
    for run in runs:
        for name, version in (run.record.environment.get("versions") or {}).items():
            versions.setdefault(name, {})[str(version)] = None
    return ", ".join(f"{name} {' and '.join(found)}" for name, found in versions.items())


def _device(environment: Mapping[str, Any]) -> str:
    device, threads = environment.get("device"), environment.get("threads")
    if not device:
        return ""
    words = "1 thread" if threads == 1 else f"{threads} threads"
    return f"{device}, {words}" if threads else str(device)
