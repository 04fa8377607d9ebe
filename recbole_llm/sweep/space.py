"""Search spaces: what a spec's ``space`` says, as suggestions to a trial or as a grid.

    space:
      learning_rate: {float: [1.0e-4, 1.0e-2], log: true}
      n_layers: {int: [1, 4]}
      reg_weight: [0, 1.0e-4, 1.0e-2]             # categorical
      temperature: {float: [0.1, 1.0], step: 0.1, when: {use_cl: true}}

A parameter with ``when`` is drawn only if each parameter that it names, all above it, has that
value, or one of a list of values.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from optuna import Trial

Value = bool | int | float | str | None


class Parameter(NamedTuple):
    """One searched key: ``kind`` is float, int or choice; ``choices`` are of the last alone."""

    name: str
    kind: str
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    choices: tuple[Value, ...] = ()
    when: tuple[tuple[str, tuple[Value, ...]], ...] = ()

    def suggest(self, trial: "Trial") -> Value:
        """Draw a value."""
        if self.kind == "choice":
            return trial.suggest_categorical(self.name, self.choices)
        if self.kind == "int":
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return trial.suggest_int(self.name, low, high, step=step, log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def values(self) -> list[Value]:
        """Return every value, for a grid.

        Raises:
            ValueError: there is no end of them.
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

    def applies(self, chosen: Mapping[str, Value]) -> bool:
        """Whether the values chosen so far switch this parameter on."""
        return all(name in chosen and chosen[name] in wanted for name, wanted in self.when)


Space = tuple[Parameter, ...]


def parse_space(content: Any, where: str = "space") -> Space:
    """Read a spec's ``space``.

    Raises:
        ValueError: names the key that is wrong.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"{where}: expected `key: range` lines, found {content!r}.")
    space: list[Parameter] = []
    for name, entry in content.items():
        space.append(_parameter(str(name), entry, f"{where}.{name}", space))
    return tuple(space)


def _parameter(name: str, entry: Any, where: str, above: Sequence[Parameter]) -> Parameter:
    if isinstance(entry, list):
        entry = {"choice": entry}
    if not isinstance(entry, Mapping):
        raise ValueError(
            f"{where}: expected a list of values, or a mapping such as "
            f"{{float: [1.0e-4, 1.0e-2], log: true}}, found {entry!r}."
        )
    unknown = set(entry) - {"float", "int", "choice", "step", "log", "when"}
    if unknown:
        raise ValueError(f"{where}: unknown key {sorted(map(str, unknown))[0]!r}.")
    kinds = [kind for kind in ("float", "int", "choice") if kind in entry]
    if len(kinds) != 1:
        raise ValueError(f"{where}: give exactly one of float, int, choice; found {entry!r}.")
    (kind,) = kinds
    values, when = entry[kind], _conditions(entry.get("when") or {}, where, above)
    if kind == "choice":
        if {"step", "log"} & set(entry):
            raise ValueError(f"{where}: step and log are of float and int ranges only.")
        plain = isinstance(values, list) and values
        if not plain or any(isinstance(v, (list, Mapping)) for v in values):
            raise ValueError(f"{where}.choice: expected a list of plain values, found {values!r}.")
        return Parameter(name, kind, choices=tuple(values), when=when)
    low, high = _bounds(values, kind, f"{where}.{kind}")
    step, log = entry.get("step"), entry.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"{where}.log: expected true or false, found {log!r}.")
    if step is not None and (log or not _is_a(kind, step) or step <= 0):
        raise ValueError(f"{where}.step: expected a positive {kind} without log, found {step!r}.")
    if log and low <= 0:
        raise ValueError(f"{where}: a log range starts above 0, found {low!r}.")
    return Parameter(name, kind, low, high, step, log, when=when)


def _is_a(kind: str, value: Any) -> bool:
    wanted = (int,) if kind == "int" else (int, float)
    return isinstance(value, wanted) and not isinstance(value, bool) and math.isfinite(value)


def _bounds(values: Any, kind: str, where: str) -> tuple[float, float]:
    good = isinstance(values, list) and len(values) == 2 and all(_is_a(kind, v) for v in values)
    if not good or values[0] > values[1]:
        raise ValueError(f"{where}: expected [low, high], two {kind}s, found {values!r}.")
    return values[0], values[1]


def _conditions(
    when: Any, where: str, above: Sequence[Parameter]
) -> tuple[tuple[str, tuple[Value, ...]], ...]:
    if not isinstance(when, Mapping):
        raise ValueError(f"{where}.when: expected `parameter: value` lines, found {when!r}.")
    known = [parameter.name for parameter in above]
    for name in when:
        if name not in known:
            raise ValueError(
                f"{where}.when: {name!r} is not a parameter above it (they are: "
                f"{', '.join(known) or 'none'})."
            )
    return tuple(
        (name, tuple(wanted) if isinstance(wanted, list) else (wanted,))
        for name, wanted in when.items()
    )


def suggest(space: Space, trial: "Trial") -> dict[str, Value]:
    """Draw every parameter that applies, in the order of the spec."""
    chosen: dict[str, Value] = {}
    for parameter in space:
        if parameter.applies(chosen):
            chosen[parameter.name] = parameter.suggest(trial)
    return chosen


def grid_points(space: Space) -> list[dict[str, Value]]:
    """Return every combination once, parameters that do not apply left out.

    Raises:
        ValueError: a parameter has no end of values.
    """
    return list(_points(space, {}))


def _points(space: Space, chosen: dict[str, Value]) -> Iterator[dict[str, Value]]:
    if not space:
        yield dict(chosen)
        return
    first, rest = space[0], space[1:]
    if not first.applies(chosen):
        yield from _points(rest, chosen)
        return
    for value in first.values():
        yield from _points(rest, {**chosen, first.name: value})


def product(grid: Mapping[str, Sequence[Value]]) -> list[dict[str, Value]]:
    """Return every combination of lists of values."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
