"""Declarations of single values: type, range and choices.

``str(Int(1))`` is ``int >= 1``, as the YAML files say in parentheses after a key; a test compares
both. ``Int(1).words()`` is ``an integer >= 1``, which an error says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from recbole_llm.registry import suggest

#: Place that a setting comes from by the setting's full name: ``command line``, a file's path.
Origin = Callable[[str], str]

# What torch, numpy and Optuna take as an integer, and what a float32 weight can hold.
_LARGEST_INT = 2**31 - 1
_LARGEST_FLOAT = 3.4e38


class Setting:
    """The declaration of one setting."""

    def accepts(self, value: Any) -> bool:
        """Return whether a value may be set."""
        raise NotImplementedError

    def words(self, plural: bool = False) -> str:
        """Return what an error message asks for, such as ``an integer >= 1``."""
        raise NotImplementedError

    def check(self, name: str, value: Any, origin: Origin) -> None:
        """Compare a value with the declaration.

        Args:
            name: full name of the setting, such as ``graph_stage.n_layers``.
            value: value as given.
            origin: place that it comes from.

        Raises:
            ValueError: the value may not be set; one line that names setting, value and origin.
        """
        if not self.accepts(value):
            raise ValueError(
                f"{name} must be {self.words()}, got {name}={_shortened(value)} ({origin(name)})."
                f"{self.hint(value)}"
            )

    def hint(self, value: Any) -> str:
        """Return a sentence on how a refused value may be repaired, or nothing."""
        return ""


@dataclass(frozen=True)
class Int(Setting):
    """An integer in low..high, ends included; a bool is none."""

    low: int | None = None
    high: int | None = None

    def accepts(self, value: Any) -> bool:
        """Return whether the value is an integer in range, and below 2^31 without ``high``."""
        if type(value) is not int:
            return False
        high = _LARGEST_INT if self.high is None else self.high
        return (-_LARGEST_INT if self.low is None else self.low) <= value <= high

    def words(self, plural: bool = False) -> str:
        """Return ``an integer >= 1``."""
        return ("integers" if plural else "an integer") + self._range()

    def hint(self, value: Any) -> str:
        """Name the largest integer where that was passed."""
        if type(value) is int and self.high is None and value > _LARGEST_INT:
            return f" The largest integer is {_LARGEST_INT}."
        return ""

    def __str__(self) -> str:
        return "int" + self._range()

    def _range(self) -> str:
        if self.high is None:
            return "" if self.low is None else f" >= {self.low}"
        return f" in {self.low}..{self.high}"


@dataclass(frozen=True)
class Float(Setting):
    """A finite number, an integer too: ``low`` and ``high`` are included, the others excluded.

    ``or_inf``: infinity may be set as well.
    """

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    or_inf: bool = False

    def accepts(self, value: Any) -> bool:
        """Return whether the value is a number in range that float32 holds; NaN is none."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if self.or_inf and value == math.inf:
            return True
        return (
            -_LARGEST_FLOAT <= value <= _LARGEST_FLOAT
            and (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def words(self, plural: bool = False) -> str:
        """Return ``a number in [0, 1)``."""
        return ("numbers" if plural else "a number") + self._range()

    def hint(self, value: Any) -> str:
        """Say that an infinite or huge number is none that a float32 weight holds."""
        if isinstance(value, (int, float)) and not abs(value) <= _LARGEST_FLOAT:
            return " It must be finite, in float32 too."
        return ""

    def __str__(self) -> str:
        return "float" + self._range()

    def _range(self) -> str:
        low = self.low if self.above is None else self.above
        high = self.high if self.below is None else self.below
        if low is None:
            return ""
        if high is None:
            return f" {'>=' if self.above is None else '>'} {low}"
        begin, end = "[" if self.above is None else "(", "]" if self.below is None else ")"
        return f" in {begin}{low}, {high}{end}"


@dataclass(frozen=True)
class Bool(Setting):
    """True or false, and no number."""

    def accepts(self, value: Any) -> bool:
        """Return whether the value is a bool."""
        return isinstance(value, bool)

    def words(self, plural: bool = False) -> str:
        """Return ``true or false``."""
        return "true or false"

    def __str__(self) -> str:
        return "bool"


class Choice(Setting):
    """One of some words, in lower or upper case where ``any_case``.

    Args:
        names: the words.
        other: what another text stands for, such as ``folder``; None: there are no others.
        any_case: RecBole reads it in any case.
    """

    def __init__(self, *names: str, other: str | None = None, any_case: bool = False) -> None:
        self.names, self.other, self.any_case = names, other, any_case

    def accepts(self, value: Any) -> bool:
        """Return whether the value is one of the words, or a text where there are others."""
        if not isinstance(value, str):
            return False
        known = (value.lower() if self.any_case else value) in self.names
        return known or (self.other is not None and bool(value))

    def words(self, plural: bool = False) -> str:
        """Return ``a, b or c``."""
        *first, last = [*self.names, *([f"a {self.other}"] if self.other else [])]
        return f"{', '.join(first)} or {last}" if first else last

    def hint(self, value: Any) -> str:
        """Suggest the nearest word."""
        return suggest(str(value), list(self.names))

    def __str__(self) -> str:
        return " | ".join([*self.names, *([self.other] if self.other else [])])


@dataclass(frozen=True)
class Text(Setting):
    """Text, which is not empty unless ``empty``."""

    empty: bool = False

    def accepts(self, value: Any) -> bool:
        """Return whether the value is text."""
        return isinstance(value, str) and (self.empty or bool(value))

    def words(self, plural: bool = False) -> str:
        """Return ``text``."""
        return "texts" if plural else "text"

    def __str__(self) -> str:
        return "str"


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
