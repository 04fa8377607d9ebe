"""Labels and negative items: what a model or a metric needs of them is there before a run."""

from collections.abc import Mapping
from typing import Any

from recbole.utils import EvaluatorType, InputType, ModelType

from recbole_llm.metrics.register import metric_types
from recbole_llm.registry import get_hooks
from recbole_llm.settings.values import Origin

# RecBole's models outside of the context-aware ones whose loss compares scores with labels.
_LABEL_READERS = frozenset("DMF FISM NAIS NeuMF NNCF MKR RippleNet DIN DIEN".split())
# RecBole's models that are trained on users' rows; no negative item is drawn for them.
_ROW_READERS = frozenset(
    "MultiDAE MultiVAE MacridVAE CDAE ENMF RaCT RecVAE DiffRec LDiffRec".split()
)
_NEGATIVES = "{distribution: uniform, sample_num: 1}"


def check_labels_and_negatives(final: Mapping[str, Any], model_class: Any, origin: Origin) -> None:
    """Refuse a run whose model or metrics need a label or negative items that nothing makes.

    Args:
        final: resolved settings by key.
        model_class: class of the model.
        origin: function from a key to the place its value comes from.

    Raises:
        ValueError: ``threshold`` would have no effect; the model or the evaluation needs a label,
            or the model negative items, and the settings make none; or ranking metrics are asked
            of labeled rows.
    """
    _check_ranking_metrics(final, origin)
    _check_threshold(final, model_class, origin)
    name, draws = model_class.__name__, _draws(final)
    if reads_label_column(final, model_class) and not _may_have_label(final):
        raise ValueError(_missing_label(final, name, _trains_on_labels(final, model_class)))
    if _compares_with_negatives(final, model_class) and not draws:
        raise ValueError(
            f"model {name} compares items with negative ones, and train_neg_sample_args "
            f"({origin('train_neg_sample_args')}) draws none. Leave it out, or set "
            f'--train_neg_sample_args="{_NEGATIVES}".'
        )
    if draws and final["train_neg_sample_args"].get("dynamic") and _has_own_loader(model_class):
        raise ValueError(
            f"train_neg_sample_args.dynamic ({origin('train_neg_sample_args')}) has no effect on "
            f"model {name}, for which no negative items are drawn. Leave it out."
        )


def reads_label_column(final: Mapping[str, Any], model_class: Any) -> bool:
    """Return whether the run reads LABEL_FIELD from the data set, and ``threshold`` makes none.

    Args:
        final: resolved settings by key.
        model_class: class of the model.
    """
    if final.get("threshold"):
        return False
    return _trains_on_labels(final, model_class) or "labeled" in _modes(final)


def _check_ranking_metrics(final: Mapping[str, Any], origin: Origin) -> None:
    ranking = [
        name for name in final["metrics"] if metric_types[name.lower()] == EvaluatorType.RANKING
    ]
    if ranking and "labeled" in _modes(final):
        raise ValueError(
            f"{', '.join(ranking)} ({origin('metrics')}) rank items, and eval_args.mode=labeled "
            f"scores the given rows alone. Choose metrics among AUC, LogLoss, MAE, RMSE, or set "
            f"--eval_args.mode=full."
        )


def _check_threshold(final: Mapping[str, Any], model_class: Any, origin: Origin) -> None:
    threshold = final.get("threshold")
    if not threshold:
        return
    field, value = next(iter(threshold.items()))
    given, name = f"threshold={threshold} ({origin('threshold')})", model_class.__name__
    drop = f"To leave rows out: --val_interval=\"{{{field}: '[{value:g},inf)'}}\"."
    has_values = metric_types[final["metrics"][0].lower()] == EvaluatorType.VALUE
    if has_values and set(_modes(final)) != {"labeled"}:
        raise ValueError(
            f"{given} has no effect where items are sampled for the evaluation: every row of the "
            f"data counts as a positive. Set --eval_args.mode=labeled. {drop}"
        )
    if _trains_on_labels(final, model_class):
        return
    if _reads_labels(model_class):
        raise ValueError(
            f"{given} has no effect on the training of {name} beside train_neg_sample_args, whose "
            f"negative items replace the labels. Set --train_neg_sample_args=null. {drop}"
        )
    if not has_values:
        raise ValueError(
            f"{given} has no effect on model {name}: every row of the data counts as a positive, "
            f"in training and in the evaluation. {drop}"
        )


def _missing_label(final: Mapping[str, Any], name: str, trains: bool) -> str:
    label = final["LABEL_FIELD"]
    need = f"model {name} learns from labels" if trains else "eval_args.mode=labeled needs labels"
    draw = f', or set --train_neg_sample_args="{_NEGATIVES}"' if trains else ""
    return (
        f"{need}, and column {label!r} (LABEL_FIELD) is not loaded. Make labels of a column, for "
        f'example --threshold="{{rating: 4}}", or name a column of 0 and 1 by --LABEL_FIELD and '
        f"in load_col{draw}."
    )


def _reads_labels(model_class: Any) -> bool:
    return model_class.type == ModelType.CONTEXT or _is_one_of(model_class, _LABEL_READERS)


def _trains_on_labels(final: Mapping[str, Any], model_class: Any) -> bool:
    """Return whether training reads the data's labels and not those of drawn items."""
    return _reads_labels(model_class) and not _draws(final)


def _compares_with_negatives(final: Mapping[str, Any], model_class: Any) -> bool:
    if _has_own_loader(model_class) or _is_one_of(model_class, frozenset(["BERT4Rec"])):
        return False
    kind = getattr(model_class, "input_type", None)
    if kind is None:
        return final.get("loss_type") == "BPR"
    return kind == InputType.PAIRWISE


def _has_own_loader(model_class: Any) -> bool:
    is_own = get_hooks(model_class).train_loader is not None
    return is_own or _is_one_of(model_class, _ROW_READERS)


def _is_one_of(model_class: Any, names: frozenset[str]) -> bool:
    return any(base.__name__ in names for base in model_class.__mro__)


def _draws(final: Mapping[str, Any]) -> bool:
    given = final.get("train_neg_sample_args") or {}
    return given.get("distribution") not in (None, "none")


def _may_have_label(final: Mapping[str, Any]) -> bool:
    """Return whether the settings load the label, or every column of the interactions."""
    columns = final["load_col"] and final["load_col"].get("inter", [])
    return columns in (None, "*") or final["LABEL_FIELD"] in columns


def _modes(final: Mapping[str, Any]) -> list[str]:
    mode = final["eval_args"].get("mode", "full")
    return list(mode.values()) if isinstance(mode, dict) else [mode]
