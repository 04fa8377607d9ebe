"""Checks of settings that depend on each other, before anything is read."""

from collections.abc import Mapping
from typing import Any

from recbole.utils import EvaluatorType

from recbole_llm.metrics.register import metric_types, needs_features, needs_users
from recbole_llm.registry import suggest
from recbole_llm.settings.group import Settings
from recbole_llm.settings.values import Int, Origin, Setting

# Metrics that have no cut-off ``@k``.
_WITHOUT_CUTOFF = frozenset("auc gauc logloss mae rmse".split())
_MOST_LEVELS, _MOST_VALUES = 20, 100_000


def check_size(name: str, value: Any) -> None:
    """Refuse a value that is nested too deeply or too large, as YAML's aliases can make one.

    Raises:
        ValueError: it has more than 20 levels or 100,000 values.
    """
    pending, n_values = [(value, name.count("."))], 0
    while pending:
        item, level = pending.pop()
        n_values += 1
        if level > _MOST_LEVELS or n_values > _MOST_VALUES:
            raise ValueError(
                f"{name[:50]} is nested too deeply or too large: at most {_MOST_LEVELS} levels "
                f"and {_MOST_VALUES} values."
            )
        if isinstance(item, Mapping):
            pending += [(inner, level + 1) for inner in item.values()]
        elif isinstance(item, (list, tuple)):
            pending += [(inner, level + 1) for inner in item]


def check_kind(name: str, value: Any, default: Any, origin: Origin) -> None:
    """Compare a setting that is not declared with the kind of its default.

    Raises:
        ValueError: the value is text, and the default a number or a switch.
    """
    kind = "a number" if isinstance(default, (int, float)) else ""
    if isinstance(default, bool):
        kind = "true or false"
    wrong = str if isinstance(default, bool) else (str, bool)
    if kind and isinstance(value, wrong):
        raise ValueError(f"{name} must be {kind}, got {name}={value!r} ({origin(name)}).")


def check_columns(final: Mapping[str, Any], origin: Origin) -> None:
    """Refuse columns of a file that RecBole does not read.

    Raises:
        ValueError: ``load_col`` or a relative names another file than RecBole's.
    """
    extra = final.get("additional_feat_suffix") or []
    known = ["inter", "user", "item", "kg", "link", "net", *_as_list(extra)]
    for key in ("load_col", "unload_col", "unused_col"):
        Settings(**{suffix: Setting() for suffix in known}).check_names(
            final.get(key) or {}, origin, f"{key}."
        )


def check_negatives(final: Mapping[str, Any], origin: Origin) -> None:
    """Refuse dynamic negative sampling without candidates.

    Raises:
        ValueError: ``dynamic`` is true and ``candidate_num`` is 0.
    """
    given = final.get("train_neg_sample_args") or {}
    if given.get("dynamic"):
        name = "train_neg_sample_args.candidate_num"
        Int(1).check(name, given.get("candidate_num", 0), origin)


def check_metrics(final: dict[str, Any], origin: Origin) -> None:
    """Check that the metrics exist and the one that chooses the epoch is among them.

    ``metrics`` and ``topk`` become lists.

    Raises:
        ValueError: a metric is unknown, does not go with the others or lacks what it reads; or
            ``valid_metric`` is not measured.
    """
    names, topk = final["metrics"], final["topk"]
    for metric in names:
        if metric.lower() not in metric_types:
            raise ValueError(
                f"unknown metric {metric!r} ({origin('metrics')})."
                f"{suggest(metric, list(metric_types))} "
                f"Metrics: {', '.join(sorted(metric_types))}."
            )
    kinds = {metric_types[metric.lower()] for metric in names}
    mode = final["eval_args"].get("mode", "full")
    full = "full" in (mode.values() if isinstance(mode, dict) else [mode])
    if EvaluatorType.VALUE in kinds and (len(kinds) > 1 or full):
        value = [name for name in names if metric_types[name.lower()] == EvaluatorType.VALUE]
        raise ValueError(
            f"{', '.join(value)} cannot be measured on a ranking of every item, nor together "
            f"with ranking metrics. Set --eval_args.mode=labeled and such metrics alone."
        )
    _check_needs(final, origin)
    _check_valid_metric(str(final["valid_metric"]), names, topk, origin)


def _check_needs(final: Mapping[str, Any], origin: Origin) -> None:
    """Refuse metrics whose features, pairs of items or lists' users are not there."""
    given, mode = f"({origin('metrics')})", final["eval_args"].get("mode", "full")
    modes = mode.values() if isinstance(mode, Mapping) else [mode]
    chosen, modalities = final.get("diversity_modality"), list(final.get("modalities") or {})
    for name in final["metrics"]:
        if needs_users(name) and set(modes) != {"full"}:
            raise ValueError(
                f"{name} {given} compares users, whose lists are known where all items are ranked: "
                f"set --eval_args.mode=full, or leave the metric out."
            )
        if not needs_features(name):
            continue
        if chosen not in modalities:
            raise ValueError(
                f"{name} {given} compares items by the features of a modality: set "
                f"--diversity_modality to one of {', '.join(modalities) or 'those in modalities'}, "
                f"got {chosen!r} ({origin('diversity_modality')})."
            )
        if min(final["topk"]) < 2:
            raise ValueError(f"{name} {given} compares pairs of items: topk must be at least 2.")


def _check_valid_metric(chosen: str, names: list[str], topk: list[int], origin: Origin) -> None:
    name, at, k = chosen.partition("@")
    lower = name.lower()
    if lower in metric_types and lower not in _WITHOUT_CUTOFF and not k:
        raise ValueError(
            f"valid_metric {chosen!r} ({origin('valid_metric')}) has no cut-off; choose one of "
            f"{', '.join(f'{name}@{cutoff}' for cutoff in topk)}."
        )
    has_cutoff = k in map(str, topk) if lower not in _WITHOUT_CUTOFF else not at
    if lower not in [metric.lower() for metric in names] or not has_cutoff:
        raise ValueError(
            f"valid_metric {chosen!r} is not measured: metrics are "
            f"{names}, topk {topk}. Add it to them, or choose another."
        )


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
