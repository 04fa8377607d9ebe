"""Search spaces: the ``space`` of a spec, drawn by trials or listed as the points of a grid.

    space:
      learning_rate: {float: [1.0e-4, 1.0e-2], log: true}
      n_layers: {int: [1, 4]}
      reg_weight: [0, 1.0e-4, 1.0e-2]             # categorical
      temperature: {float: [0.1, 1.0], step: 0.1, when: {use_cl: true}}

A parameter with ``when`` is drawn only if each parameter that ``when`` names has the value given
there, or one of a list of values. The named parameters stand above it.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from optuna import Trial

Value = bool | int | float | str | None
Point = dict[str, Value]


class Parameter(NamedTuple):
    """One searched key.

    Attributes:
        name: setting that is searched, such as ``learning_rate`` or ``graph_stage.n_layers``.
        kind: ``float``, ``int`` or ``choice``.
        low: smallest value of a range.
        high: largest value of a range.
        step: distance between the values of a range; None: every value, or for int each integer.
        log: whether a range is drawn on a logarithmic scale.
        choices: values of a choice.
        when: names of parameters above this one, each with the values that switch this one on.
    """

    name: str
    kind: str
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    choices: tuple[Value, ...] = ()
    when: tuple[tuple[str, tuple[Value, ...]], ...] = ()

    def draw(self, trial: "Trial") -> Value:
        """Draw a value for a trial."""
        if self.kind == "choice":
            return trial.suggest_categorical(self.name, self.choices)
        if self.kind == "int":
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return trial.suggest_int(self.name, low, high, step=step, log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def values(self) -> list[Value]:
        """Return every value, for a grid.

        Raises:
            ValueError: the range has infinitely many values.
        """
        if self.kind == "choice":
            return list(self.choices)
        if self.log or (self.kind == "float" and self.step is None):
            raise ValueError(
                f"space.{self.name}: a grid needs a list of values, or a step without log."
            )
        step = self.step or 1
        n_steps = math.floor((self.high - self.low) / step + 1e-9)
        drawn = [self.low + i * step for i in range(n_steps + 1)]
        return [int(v) if self.kind == "int" else round(v, 12) for v in drawn]

    def extremes(self) -> list[Value]:
        """Return the values to check before a search: each choice, or both ends of the range."""
        if self.kind == "choice":
            return list(self.choices)
        if self.step is None:
            return [self.low, self.high]
        values = self.values()
        return [values[0], values[-1]]

    def can_be(self, value: Value) -> bool:
        """Whether a value is one of the choices, or inside the range."""
        if self.kind == "choice":
            return value in self.choices
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    def applies(self, chosen: Mapping[str, Value]) -> bool:
        """Whether the values chosen so far switch this parameter on."""
        return all(name in chosen and chosen[name] in values for name, values in self.when)


Space = tuple[Parameter, ...]


def draw(space: Space, trial: "Trial") -> Point:
    """Draw every parameter that applies, in the order of the spec."""
    chosen: Point = {}
    for parameter in space:
        if parameter.applies(chosen):
            chosen[parameter.name] = parameter.draw(trial)
    return chosen


def grid_points(space: Space) -> list[Point]:
    """Return every combination once, parameters that do not apply left out.

    Raises:
        ValueError: a parameter has infinitely many values.
    """
    return list(_points(space, {}))


def _points(space: Space, chosen: Point) -> Iterator[Point]:
    if not space:
        yield dict(chosen)
        return
    first, rest = space[0], space[1:]
    if not first.applies(chosen):
        yield from _points(rest, chosen)
        return
    for value in first.values():
        yield from _points(rest, {**chosen, first.name: value})


def extreme_points(space: Space) -> Iterator[tuple[str, Value, Point]]:
    """Yield a parameter, one of its extremes, and a point of the space that holds it.

    The other parameters of the point have their first value, except that those which ``when``
    names have a value that switches the parameter on. Every parameter and extreme occurs once.

    Raises:
        ValueError: no point of the space switches a parameter on.
    """
    by_name = {parameter.name: parameter for parameter in space}
    for parameter in space:
        for value in parameter.extremes():
            fixed = {**_switched_on(parameter, by_name), parameter.name: value}
            point: Point = {}
            for other in space:
                if other.applies(point):
                    point[other.name] = fixed.get(other.name, other.extremes()[0])
            if parameter.name not in point:
                raise ValueError(
                    f"space.{parameter.name}.when: no value of {_names(parameter)} switches "
                    f"{parameter.name} on."
                )
            yield parameter.name, value, point


def _switched_on(parameter: Parameter, by_name: Mapping[str, Parameter]) -> Point:
    """Return values of the parameters above that switch a parameter on."""
    fixed: Point = {}
    for name, values in parameter.when:
        fixed |= _switched_on(by_name[name], by_name)
        fixed[name] = next((value for value in values if by_name[name].can_be(value)), None)
    return fixed


def _names(parameter: Parameter) -> str:
    return ", ".join(name for name, _ in parameter.when)


def product(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return every combination of lists of values."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
