"""What settings stand for: modalities by name, and the split that a run has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from recbole_llm.registry import suggest
from recbole_llm.settings.values import Origin
from recbole_llm.splitting.frozen import read_frozen

#: The two evaluation protocols by name; docs/models.md has the papers that use each.
PROTOCOLS: dict[str, dict[str, Any]] = {
    "loo": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    "random811": {
        "split": {"RS": [0.8, 0.1, 0.1]},
        "order": "RO",
        "group_by": "user",
        "mode": "full",
    },
}

# RecBole filters rows of one .inter file alone.
_FILTERS = ("val_interval", "rm_dup_inter", "user_inter_num_interval", "item_inter_num_interval")


class Given(NamedTuple):
    """What a run says about its split.

    Attributes:
        dataset: name of the data set.
        settings: settings that the user gave, by key.
        origin: place that a setting comes from.
        is_sequential: whether the model is one of RecBole's sequential ones.
    """

    dataset: str
    settings: Mapping[str, Any]
    origin: Origin
    is_sequential: bool


def resolve_forms(final: dict[str, Any], given: Given) -> None:
    """Make folders text, and ``metrics`` and ``topk`` lists.

    Raises:
        ValueError: a folder is none.
    """
    for key in ("data_path", "checkpoint_dir", "cache_dir", "runs_dir"):
        if final.get(key) is None:
            raise ValueError(f"{key} must be a folder, got none ({given.origin(key)}).")
        final[key] = str(final[key])
    for key in ("metrics", "topk"):
        value = final[key]
        final[key] = list(value) if isinstance(value, (list, tuple)) else [value]


def resolve_modalities(final: dict[str, Any], offered: Any, given: Given) -> None:
    """Let ``modalities: [text]`` choose among the modalities that the dataset's YAML names.

    Args:
        final: the run's settings.
        offered: modalities of the dataset's YAML, which may be none or malformed.
        given: what the user gave.

    Raises:
        ValueError: the dataset has no modality of a name.
    """
    chosen = final.get("modalities")
    if isinstance(chosen, str):
        chosen = [chosen]
    if not isinstance(chosen, (list, tuple)):
        return
    offered = offered if isinstance(offered, Mapping) else {}
    for name in chosen:
        if not isinstance(name, str) or name not in offered:
            raise ValueError(
                f"modality {name!r} ({given.origin('modalities')}) is not one of dataset "
                f"{given.dataset!r}, which has: {', '.join(offered) or 'none'}."
                f"{suggest(str(name), list(offered))}"
            )
    final["modalities"] = {name: offered[name] for name in chosen}


def resolve_protocol(final: dict[str, Any], given: Given) -> None:
    """Set ``protocol`` and ``eval_args`` in ``final``, and for a frozen split all that it fixes.

    Args:
        final: the run's settings.
        given: what the user gave of them.

    Raises:
        ValueError: two settings say how to split, the protocol is unknown, or rows of a fixed split
            would be filtered.
        FileNotFoundError: there is no such frozen split.
    """
    asked = given.settings.get("protocol")
    if final["split"] is not None:
        if "eval_args" in given.settings:
            raise ValueError("split and eval_args are both given, and both say how to split.")
        return _resolve_frozen(final, given)
    _check_asked(asked, given)
    if final.get("benchmark_filename"):
        if asked is not None:
            raise ValueError(
                f"dataset {given.dataset!r} comes with a fixed split "
                f"(benchmark_filename: {final['benchmark_filename']}), which protocol "
                f"{asked!r} cannot re-split. Leave out --protocol."
            )
        _check_filters(final, given)
        final["protocol"] = "fixed"
        final["eval_args"] = {**PROTOCOLS["random811"], **final.get("eval_args", {})}
        # Nothing is ordered by a fixed split, but RecBole wants the model's usual order named.
        final["eval_args"]["order"] = "TO" if given.is_sequential else "RO"
    elif "eval_args" in given.settings:
        final["protocol"] = next(
            (name for name, args in PROTOCOLS.items() if args == final["eval_args"]), "custom"
        )
    else:
        default = "loo" if given.is_sequential else "random811"
        final["protocol"] = final.get("protocol") or default
        final["eval_args"] = {**PROTOCOLS[final["protocol"]]}


def _check_filters(final: Mapping[str, Any], given: Given) -> None:
    """Refuse filters of rows beside a fixed split, whose files RecBole reads whole."""
    for key in _FILTERS:
        if final.get(key) not in (None, "[0,inf)"):
            raise ValueError(
                f"{key}={final[key]!r} ({given.origin(key)}) has no effect on the fixed split of "
                f"dataset {given.dataset!r} (benchmark_filename: {final['benchmark_filename']}). "
                f"Leave it out, or filter the files."
            )


def _check_asked(asked: Any, given: Given) -> None:
    if asked is None:
        return
    if asked not in PROTOCOLS:
        raise ValueError(
            f"unknown protocol {asked!r} ({given.origin('protocol')}); expected one of "
            f"{', '.join(PROTOCOLS)}.{suggest(str(asked), list(PROTOCOLS))} Others are frozen "
            f"first: recbole_llm split --dataset={given.dataset} --protocol=...; see its --help."
        )
    if "eval_args" in given.settings:
        raise ValueError(
            "protocol and eval_args are both given, and both say how to split. Give one."
        )


def _resolve_frozen(final: dict[str, Any], given: Given) -> None:
    """Let ``split`` name a frozen split, whose protocol and row settings a run then has."""
    folder = Path(final["data_path"]) / given.dataset
    frozen = read_frozen(str(final["split"]), folder, given.dataset)
    for key, value in {**frozen.settings, "protocol": frozen.protocol}.items():
        asked = plain(given.settings.get(key))
        if asked is not None and asked != value:
            raise ValueError(
                f"{key}={asked!r} ({given.origin(key)}) does not fit split {frozen.name!r}, "
                f"which was frozen with {key}={value!r}. Leave it out, or freeze another "
                f"split with `recbole_llm split`."
            )
        final[key] = value
    final |= {"split": frozen.name, "split_sha256": frozen.sha256}
    final["split_dir"] = str(frozen.folder)
    final["eval_args"] = {
        "split": {"frozen": frozen.name},
        "order": "TO" if given.is_sequential or frozen.manifest["seed"] is None else "RO",
        "group_by": "user",
        "mode": "full",
    }


def plain(value: Any) -> Any:
    """Return a setting's value as JSON holds it: lists, dicts, and text for what it does not."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
