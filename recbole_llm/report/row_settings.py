"""Whether a run has the settings that a row of the spec gives."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from recbole_llm.config import Config
from recbole_llm.record import RunRecord
from recbole_llm.settings.fingerprint import VOLATILE_KEYS
from recbole_llm.sweep.sampler import SAMPLERS
from recbole_llm.sweep.settings import run_settings
from recbole_llm.sweep.space import Value
from recbole_llm.sweep.spec import Row, Spec

# Seeds are a key of the spec's own; the others say which of several processes the run was.
_NOT_COMPARED = VOLATILE_KEYS | set("seed ip local_rank nproc offset port world_size".split())
_ABSENT = object()


class _Resolved(NamedTuple):
    """The settings that a spec stands for.

    Attributes:
        given: names of the settings that the spec gives.
        settings: all settings of a run, defaults too.
    """

    given: frozenset[str]
    settings: dict[str, Any]


class RowSettings:
    """The settings of one row of a spec on one dataset at one point of its grid.

    Args:
        spec: experiment.
        row: line of the spec.
        dataset: name of a dataset of the spec.
        point: point of the spec's grid.
    """

    def __init__(self, spec: Spec, row: Row, dataset: str, point: Mapping[str, Value]) -> None:
        self.spec, self.row, self.dataset, self.point = spec, row, dataset, point
        self._resolved: dict[str, _Resolved] = {}

    def differences(self, record: RunRecord, defaults: bool) -> list[str]:
        """Return what differs between a run and the row, such as ``epochs is 2, spec 200``.

        A searched setting must lie in the row's space, and the budget of a search must be the
        spec's. A setting that one of the two versions of the code does not have is not compared.

        Args:
            record: the run.
            defaults: whether settings that the spec leaves to their defaults are compared too.

        Raises:
            ValueError, OSError, ImportError: the settings of the spec cannot be resolved here.
        """
        searched = self._searched(record)
        resolved = self._resolve(record, {k: v for k, (v, inside) in searched.items() if inside})
        found = [
            f"{name} is {_show(value)}, outside the spec's space"
            for name, (value, inside) in searched.items()
            if not inside
        ]
        names = resolved.given | (set(record.config) if defaults else set())
        for name in sorted((names & set(resolved.settings)) - _NOT_COMPARED):
            expected = resolved.settings[name]
            for key, value, other in _leaves(name, record.config.get(name, _ABSENT), expected):
                if key not in searched:
                    found.append(f"{key} is {_show(value)}, spec {_show(other)}")
        return [*found, *self._budget(record)]

    def _searched(self, record: RunRecord) -> dict[str, tuple[Any, bool]]:
        """Return a run's value of each searched setting, and whether the space has it."""
        values = {
            parameter.name: look_up(record.config, parameter.name) for parameter in self.row.space
        }
        return {
            parameter.name: (values[parameter.name], parameter.can_be(values[parameter.name]))
            for parameter in self.row.space
            if parameter.applies(values)
        }

    def _resolve(self, record: RunRecord, searched: Mapping[str, Any]) -> _Resolved:
        places = {}
        if "data_path" in record.config:  # it holds the dataset.yaml of the run
            places["data_path"] = str(Path(str(record.config["data_path"])).parent)
        key = json.dumps([places, searched], sort_keys=True)
        if key not in self._resolved:
            files, settings = run_settings(self.spec, self.row, {**self.point, **searched}, places)
            config = Config(self.row.model, self.dataset, files, settings)
            given = frozenset(config.external_config_dict) - {"data_path"}
            self._resolved[key] = _Resolved(given, config.to_dict())
        return self._resolved[key]

    def _budget(self, record: RunRecord) -> Iterator[str]:
        search = self.spec.search
        if not self.row.space or search is None:
            return
        found = record.origin.get("budget", {})
        expected: dict[str, Any] = {"sampler": search.sampler}
        if SAMPLERS[search.sampler].build is not None:
            expected["n_trials"] = self.row.n_trials or search.n_trials
        for name, value in expected.items():
            if name in found and found[name] != value:
                yield f"search.{name} is {_show(found[name])}, spec {_show(value)}"


def _leaves(name: str, value: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted name and both values of each setting that differs."""
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        for key in sorted(set(map(str, value)) | set(map(str, other))):
            yield from _leaves(f"{name}.{key}", value.get(key, _ABSENT), other.get(key, _ABSENT))
    elif value != other or isinstance(value, bool) != isinstance(other, bool):
        yield name, value, other


def look_up(config: Mapping[str, Any], key: str) -> Any:
    """Return the value of a setting by its dotted name, None where there is none."""
    value: Any = config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _show(value: Any) -> str:
    text = "not set" if value is _ABSENT or value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
