"""YAML content checked by pydantic, whose errors become one line with the path of the key."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from recbole_llm.registry import suggest

_T = TypeVar("_T")
#: First character of a union's tags, which are part of pydantic's location and not of the path.
TAG = "="
_LONGEST = 80  # characters of a value that an error shows

# What was expected, by pydantic's type of error; `kind` is a union's without such a kind.
_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "`key: value` lines",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "a number > {gt}",
    "greater_than_equal": "an integer >= {ge}",
    "int_type": "an integer",
    "invalid-json-value": "text, a number, true, false, null, a list or a mapping",
    "invalid_key": "text as the name of a key",
    "list_type": "a list",
    "literal_error": "{expected}",
    "model_type": "`key: value` lines",
    "recursion_loop": "a value that does not contain itself",
    "string_type": "text",
    "too_long": "at most {max_length} of them",
    "too_short": "at least {min_length} of them",
}


def expectation(expected: str, key: str = "") -> PydanticCustomError:
    """Return an error for a validator to raise.

    Its text becomes ``<path>: expected <expected>, found <value>.``

    Args:
        expected: description of a right value.
        key: key of the validated mapping whose value is wrong; empty: the whole value is.
    """
    context = {"expected": expected, "key": key}
    return PydanticCustomError("expectation", "expected {expected}", context)


class Entry(BaseModel):
    """A mapping of a YAML file: each key is known, and each value has the declared type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, content: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        unknown = [key for key in content if key not in known] if isinstance(content, dict) else []
        if unknown:
            key = str(unknown[0])
            advice = suggest(key, known) or f" The keys are: {', '.join(known)}."
            raise PydanticCustomError("unknown_key", "unknown key", {"key": key, "advice": advice})
        return content


def validate(kind: type[_T], content: Any, where: str = "") -> _T:
    """Check content against a model or type, and return it as one.

    Args:
        kind: pydantic model, or a type that pydantic knows.
        content: value read from YAML.
        where: path of the content in its file; empty for a whole file.

    Raises:
        ValueError: the first problem, in one line that begins with the path of its key.
    """
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        text = _describe(error.errors(include_url=False)[0], content, where)
        raise ValueError(text) from error


def _describe(problem: ErrorDetails, content: Any, where: str) -> str:
    context, found = problem.get("ctx", {}), problem["input"]
    path = _path(problem["loc"], content, where)
    if problem["type"] == "unknown_key":
        return f"unknown key {_join(path, context['key'])!r}.{context['advice']}"
    if problem["type"] == "missing":
        return f"{path}: this key is required."
    if problem["loc"][-1:] == ("[key]",):
        return f"{path}: expected text as the name of a key, found {found!r}."
    kind = problem["type"]
    key = "kind" if kind == "kind" else context.get("key")
    if key and isinstance(found, dict):
        path, found = _join(path, key), found.get(key)
    elif key:
        kind = "dict_type"
    expected = problem["msg"].removeprefix("expected ")
    if kind in _EXPECTED:
        expected = _EXPECTED[kind].format(**context)
    text = repr(found) if len(repr(found)) <= _LONGEST else f"{repr(found)[:_LONGEST]}..."
    return f"{path}: expected {expected}, found {text}."


def _path(location: Sequence[int | str], content: Any, where: str) -> str:
    """Return a location as it would be written: ``rows[2].settings``."""
    path = where
    for part in location:
        if isinstance(content, list) and isinstance(part, int):
            path, content = f"{path}[{part}]", content[part]
        elif isinstance(content, dict) and part in content:
            path, content = _join(path, part), content[part]
        # Besides our tags, pydantic names the kinds of nested values, and a key that is wrong.
        elif part not in ("list", "dict", "[key]") and not str(part).startswith(TAG):
            path, content = _join(path, part), None
    return path


def _join(path: str, key: int | str) -> str:
    return f"{path}.{key}" if path else str(key)
