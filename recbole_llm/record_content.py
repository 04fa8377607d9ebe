"""The kinds of the values in a run record that was read from a file."""

import math
from collections.abc import Mapping
from typing import Any

_TEXTS = (
    *("id", "model", "dataset", "protocol", "config_hash", "folder", "status"),
    *("started", "finished", "command", "error"),
)
_OBJECTS = ("config", "data", "metrics", "files", "environment", "origin", "metrics_cold")


def check_content(content: Mapping[str, Any]) -> None:
    """Check the values of a record's JSON content; a field without a value has its default.

    Raises:
        ValueError: a value is of another kind than the program reads, or a metric is no finite
            number.
    """
    for names, kind, text in ((_TEXTS, str, "a text"), (_OBJECTS, dict, "an object")):
        for name in names:
            if name in content and not isinstance(content[name], kind):
                raise ValueError(f"{name} must be {text}, found {_shown(content[name])}.")
    if type(content["seed"]) is not int:
        raise ValueError(f"seed must be a whole number, found {_shown(content['seed'])}.")
    for name, value in content.get("files", {}).items():
        if not isinstance(value, str):
            raise ValueError(f"files.{name} must be a path, found {_shown(value)}.")
    if not isinstance(content["environment"].get("versions", {}), dict):
        raise ValueError("environment.versions must be an object.")
    if content.get("origin") and not isinstance(content["origin"].get("kind"), str):
        raise ValueError("origin.kind is missing or no text; it says what the run is to its sweep.")
    _check_numbers("metrics", content.get("metrics", {}), depth=2)
    _check_numbers("metrics_cold", content.get("metrics_cold", {}), depth=3)
    for stage in content["stages"]:
        _check_numbers(f"metrics of the stage {stage['name']}", stage.get("metrics", {}), depth=2)


def _check_numbers(name: str, value: Any, depth: int) -> None:
    """Check that ``depth`` objects inside each other end in finite numbers."""
    if not depth:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise ValueError(f"{name} must be a number, found {_shown(value)}.")
        return
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object, found {_shown(value)}.")
    for key, inner in value.items():
        _check_numbers(f"{name}.{key}", inner, depth - 1)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
