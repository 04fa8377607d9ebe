"""Declarations of lists, dicts and whole groups of settings, such as those of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recbole_llm.registry import suggest
from recbole_llm.settings.values import Origin, Setting

_NUMBERS = {2: "two", 3: "three"}


@dataclass(frozen=True)
class ListOf(Setting):
    """A list of values of one kind, at least one; ``size`` of them where it is given.

    ``or_one``: a value alone stands for a list of it. ``empty``: the list may be empty.
    """

    item: Setting
    size: int | None = None
    or_one: bool = False
    empty: bool = False

    def accepts(self, value: Any) -> bool:
        """Return whether the value is such a list."""
        if not isinstance(value, (list, tuple)):
            return self.or_one and self.item.accepts(value)
        right_size = len(value) == self.size or (self.size is None and (self.empty or bool(value)))
        return right_size and all(self.item.accepts(item) for item in value)

    def words(self, plural: bool = False) -> str:
        """Return ``a list of integers >= 1``, or ``two numbers``."""
        count = "a list of" if self.size is None else _NUMBERS[self.size]
        return f"{count} {self.item.words(plural=True)}"

    def __str__(self) -> str:
        if self.size is None:
            return f"list of {self.item}"
        kind, _, rest = str(self.item).partition(" ")
        return f"{_NUMBERS[self.size]} {kind}s{' ' * bool(rest)}{rest}"


@dataclass(frozen=True)
class MapOf(Setting):
    """A dict from any names to values of one kind; None: to any values."""

    item: Setting | None = None

    def accepts(self, value: Any) -> bool:
        """Return whether the value is such a dict."""
        return isinstance(value, Mapping) and all(
            isinstance(name, str) and (self.item is None or self.item.accepts(item))
            for name, item in value.items()
        )

    def words(self, plural: bool = False) -> str:
        """Return ``a dict of numbers >= 0``."""
        return "a dict" if self.item is None else f"a dict of {self.item.words(plural=True)}"

    def check(self, name: str, value: Any, origin: Origin) -> None:
        """Compare a dict and each of its values with the declaration.

        Raises:
            ValueError: it is no dict, or a value may not be set.
        """
        if not isinstance(value, Mapping):
            super().check(name, value, origin)
        for key, item in value.items():
            if ":" in str(key):  # {image:0.1} is a name without a value
                raise ValueError(
                    f"{name} has the key {key!r} ({origin(name)}). Write {{name: value}}, with a "
                    f"space after the colon."
                )
            if self.item is not None:
                self.item.check(f"{name}.{key}", item, origin)

    def __str__(self) -> str:
        return "dict" if self.item is None else f"dict of {self.item}"


class Nested(Setting):
    """A dict of declared keys; each of them may be left out.

    Args:
        required: names of the keys that must be there.
        keys: declaration of each key.
    """

    def __init__(self, required: tuple[str, ...] = (), **keys: Setting) -> None:
        self.required, self.keys = required, Settings(**keys)

    def accepts(self, value: Any) -> bool:
        """Return whether the value is a dict whose keys and values are declared."""
        return (
            isinstance(value, Mapping)
            and all(key in value for key in self.required)
            and all(key in self.keys and self.keys[key].accepts(value[key]) for key in value)
        )

    def words(self, plural: bool = False) -> str:
        """Return ``a dict with the keys a, b``."""
        return f"a dict with the keys {', '.join(self.keys)}"

    def check(self, name: str, value: Any, origin: Origin) -> None:
        """Compare a dict with the declaration.

        Raises:
            ValueError: it is no dict, a key is unknown or missing, or a value may not be set.
        """
        if not isinstance(value, Mapping):
            super().check(name, value, origin)
        self.keys.check_names(value, origin, f"{name}.")
        if any(key not in value for key in self.required):
            super().check(name, value, origin)
        given = Settings(**{key: self.keys[key] for key in value})
        given.check(value, origin, f"{name}.")

    def __str__(self) -> str:
        return "dict"


@dataclass(frozen=True)
class Optional(Setting):
    """What another declaration takes, or none (``~``)."""

    inner: Setting

    def accepts(self, value: Any) -> bool:
        """Return whether the value is None or accepted."""
        return value is None or self.inner.accepts(value)

    def words(self, plural: bool = False) -> str:
        """Return ``an integer >= 1, or none``."""
        return f"{self.inner.words(plural)}, or none"

    def check(self, name: str, value: Any, origin: Origin) -> None:
        """Compare a value that is not None with the declaration.

        Raises:
            ValueError: the value may not be set.
        """
        if isinstance(value, Mapping):
            self.inner.check(name, value, origin)
        else:
            super().check(name, value, origin)

    def hint(self, value: Any) -> str:
        """Return the hint of the other declaration."""
        return self.inner.hint(value)

    def __str__(self) -> str:
        return f"{self.inner}, or ~"


class Either(Setting):
    """What one of several declarations takes; a dict is compared with the ``Nested`` among them."""

    def __init__(self, *options: Setting) -> None:
        self.options = options

    def accepts(self, value: Any) -> bool:
        """Return whether one of the declarations accepts the value."""
        return any(option.accepts(value) for option in self.options)

    def words(self, plural: bool = False) -> str:
        """Return ``text, or a list of texts``."""
        return ", or ".join(option.words(plural) for option in self.options)

    def check(self, name: str, value: Any, origin: Origin) -> None:
        """Compare a value with the declarations.

        Raises:
            ValueError: none of them accepts the value.
        """
        nested = [option for option in self.options if isinstance(option, Nested)]
        if nested and isinstance(value, Mapping):
            nested[0].check(name, value, origin)
        else:
            super().check(name, value, origin)

    def __str__(self) -> str:
        return ", or ".join(map(str, self.options))


class Settings(Mapping[str, Setting]):
    """Declarations by key; ``a | b`` has those of both, ``b`` over ``a``."""

    def __init__(self, **declared: Setting) -> None:
        self._declared = declared

    def __getitem__(self, key: str) -> Setting:
        return self._declared[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared)

    def __len__(self) -> int:
        return len(self._declared)

    def __or__(self, other: Settings) -> Settings:
        return Settings(**{**self._declared, **other._declared})

    def pick(self, *keys: str) -> Settings:
        """Return the declarations of some keys."""
        return Settings(**{key: self._declared[key] for key in keys})

    def check(self, values: Mapping[str, Any], origin: Origin, prefix: str = "") -> None:
        """Compare the value of every declared key with its declaration; a missing one is None.

        Args:
            values: values by key.
            origin: place that a setting comes from, by its full name.
            prefix: begin of the full names, such as ``graph_stage.``.

        Raises:
            ValueError: a value may not be set, such as
                ``n_layers must be an integer >= 0, got n_layers=1.5 (command line).``
        """
        for key, declared in self._declared.items():
            declared.check(prefix + key, values.get(key), origin)

    def check_names(self, values: Mapping[str, Any], origin: Origin, prefix: str = "") -> None:
        """Refuse keys that are not declared, for nothing reads them.

        Raises:
            ValueError: a key is unknown; suggests the nearest.
        """
        for key in values:
            if key not in self._declared:
                name, near = f"{prefix}{key}", suggest(str(key), list(self._declared), prefix)
                raise ValueError(
                    f"unknown key {name!r} ({origin(name)}).{near} "
                    f"Known: {', '.join(prefix + known for known in self._declared)}."
                )


def declared_settings(model_class: type) -> Settings:
    """Return what a model class declares as ``settings``; nothing for one that does not."""
    declared = getattr(model_class, "settings", None)
    return declared if isinstance(declared, Settings) else Settings()
