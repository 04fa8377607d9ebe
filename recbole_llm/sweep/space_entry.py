"""The ``space`` of a spec as it is written, and the search space that it stands for."""

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, Tag, model_validator

from recbole_llm.registry import suggest
from recbole_llm.sweep.fields import Number, Values, check_plain, tagged
from recbole_llm.sweep.space import Parameter, Space, Value
from recbole_llm.sweep.validation import TAG, Entry, expectation


def _plain_or_list(value: Any) -> Any:
    for each in value if isinstance(value, list) else [value]:
        check_plain(each)
    return value


def _bounds(kind: type) -> BeforeValidator:
    """Return a validator of [low, high]; ``kind`` is int or float, and an int is a float too."""
    kinds = (int,) if kind is int else (int, float)

    def check(bounds: Any) -> Any:
        numbers = isinstance(bounds, list) and all(type(each) in kinds for each in bounds)
        if numbers and len(bounds) == 2 and all(map(math.isfinite, bounds)):
            if bounds[0] <= bounds[1]:
                return bounds
        raise expectation(f"[low, high], two {kind.__name__}s")

    return BeforeValidator(check)


When = dict[str, Annotated[Value | list[Value], BeforeValidator(_plain_or_list)]]


class _Parameter(Entry):
    when: When | None = Field(
        None, description="Parameters above, each with the value or values that switch this on."
    )


class _Range(_Parameter):
    bounds: list[int | float]
    step: Annotated[Number, Field(gt=0)] | None = Field(
        None, description="Distance between the values; left out, every value is possible."
    )
    log: bool = Field(False, description="Whether to draw on a logarithmic scale.")

    @model_validator(mode="after")
    def _check_scale(self) -> "_Range":
        if self.log and self.step is not None:
            raise expectation("a range with step or with log, one of them", key="step")
        if self.log and self.bounds[0] <= 0:
            raise expectation("a log range that starts above 0")
        return self


class FloatRange(_Range):
    """A range of numbers: ``{float: [low, high]}``."""

    bounds: Annotated[list[int | float], _bounds(float)] = Field(alias="float")


class IntRange(_Range):
    """A range of integers: ``{int: [low, high]}``."""

    bounds: Annotated[list[int | float], _bounds(int)] = Field(alias="int")
    step: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Distance between the values; left out, every integer is possible."
    )


class Choice(_Parameter):
    """One of a list of values: ``{choice: [...]}``."""

    choice: Values


def _kind_of_parameter(entry: Any) -> str | None:
    if isinstance(entry, list):
        return "values"
    kinds = {"float", "int", "choice"} & set(entry) if isinstance(entry, dict) else set()
    return kinds.pop() if len(kinds) == 1 else None


ParameterEntry = Annotated[
    Annotated[Values, Tag(f"{TAG}values")]
    | Annotated[FloatRange, Tag(f"{TAG}float")]
    | Annotated[IntRange, Tag(f"{TAG}int")]
    | Annotated[Choice, Tag(f"{TAG}choice")],
    tagged(
        _kind_of_parameter,
        "a list of values, or a mapping with exactly one of float, int, choice, such as "
        "{float: [1.0e-4, 1.0e-2], log: true}",
    ),
]
SpaceEntry = dict[str, ParameterEntry]


def build_space(entries: SpaceEntry, where: str) -> Space:
    """Return the space of validated entries.

    Raises:
        ValueError: ``when`` names a parameter that does not stand above.
    """
    space: list[Parameter] = []
    for name, entry in entries.items():
        when = {} if isinstance(entry, list) else entry.when or {}
        above = [parameter.name for parameter in space]
        for other in when:
            if other not in above:
                known = ", ".join(above) or "none"
                raise ValueError(
                    f"{where}.{name}.when: {other!r} is not a parameter above it (they are: "
                    f"{known}).{suggest(other, above)}"
                )
        conditions = tuple(
            (other, tuple(values) if isinstance(values, list) else (values,))
            for other, values in when.items()
        )
        space.append(_parameter(name, entry)._replace(when=conditions))
    return tuple(space)


def _parameter(name: str, entry: ParameterEntry) -> Parameter:
    if isinstance(entry, (FloatRange, IntRange)):
        kind = "float" if isinstance(entry, FloatRange) else "int"
        low, high = entry.bounds
        return Parameter(name, kind, low, high, entry.step, entry.log)
    values = entry if isinstance(entry, list) else entry.choice
    return Parameter(name, "choice", choices=tuple(values))
