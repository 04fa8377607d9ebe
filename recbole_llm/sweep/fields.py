"""Types of a spec's values for pydantic, with errors that say what is expected."""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    JsonValue,
    WithJsonSchema,
)

from recbole_llm.sweep.space import Value
from recbole_llm.sweep.validation import TAG, expectation


def check_plain(value: Any) -> Any:
    """Return a value that is text, a number, a boolean or None, or raise an error."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise expectation("text, a number, true, false or null")


def _number(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return value
    raise expectation("a finite number")


def name_in(table: Mapping[str, Any]) -> tuple[AfterValidator, WithJsonSchema]:
    """Return annotations of a text field that is one of a table's names."""

    def check(name: str) -> str:
        if name not in table:
            raise expectation(f"one of {', '.join(table)}")
        return name

    return AfterValidator(check), WithJsonSchema({"enum": list(table), "type": "string"})


def tagged(
    tag_of: Callable[[Any], str | None], expected: str, error: str = "expectation"
) -> Discriminator:
    """Return a discriminator of a union; ``tag_of`` returns None for content of unknown kind."""
    return Discriminator(
        lambda content: None if (tag := tag_of(content)) is None else TAG + tag,
        custom_error_type=error,
        custom_error_message=f"expected {expected}",
    )


def by_kind(kinds: list[str], default: str | None = None) -> Discriminator:
    """Return a discriminator of a union of mappings by their key ``kind``.

    Args:
        kinds: values of ``kind``.
        default: kind of a mapping without the key; None: the key is required.
    """

    def tag_of(content: Any) -> str | None:
        kind = content.get("kind", default) if isinstance(content, dict) else None
        return kind if isinstance(kind, str) and kind in kinds else None

    return tagged(tag_of, f"one of {', '.join(kinds)}", error="kind")


PlainValue = Annotated[Value, BeforeValidator(check_plain)]
Values = Annotated[list[PlainValue], Field(min_length=1)]
Number = Annotated[int | float, BeforeValidator(_number)]
Texts = Annotated[list[str], Field(min_length=1)]
Metrics = Annotated[
    list[Annotated[str, AfterValidator(str.lower)]],
    Field(min_length=1, description="Metrics with their cut-off, such as recall@20."),
]
Settings = dict[str, JsonValue]
