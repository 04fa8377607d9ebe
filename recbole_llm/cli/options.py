"""Options made from the fields of a settings dataclass (see ``recbole_llm.options``)."""

import argparse
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from recbole_llm.options import declared_options

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)


def add_options(parser: argparse.ArgumentParser, settings_class: "type[DataclassInstance]") -> None:
    """Add ``--<name>`` for every field of a dataclass, under the group that it declares.

    The type is the field's; bool fields become flags. The dataclass checks choices and ranges, so
    that they hold for every caller and have one text.
    """
    kinds = get_type_hints(settings_class)
    declarations = declared_options(settings_class)
    groups: dict[str, Any] = {"": parser}
    for each in fields(settings_class):
        declared = declarations[each.name]
        if declared.group not in groups:
            groups[declared.group] = parser.add_argument_group(declared.group)
        add = groups[declared.group].add_argument
        kind = _without_none(kinds[each.name])
        if kind is bool:
            add(f"--{each.name}", action="store_true", help=declared.help_text)
            continue
        add(
            f"--{each.name}",
            type=kind,
            required=each.default is MISSING,
            default=None if each.default is MISSING else each.default,
            metavar="|".join(declared.choices) or kind.__name__.upper(),
            help=declared.help_text + _default_text(each),
        )


def build_settings(arguments: argparse.Namespace, settings_class: "type[T]") -> "T":
    """Build a settings object from parsed options.

    Raises:
        ValueError: a value is out of range, or two options exclude each other.
    """
    options = {name: getattr(arguments, name) for name in declared_options(settings_class)}
    return settings_class(**options)


def _without_none(kind: Any) -> Any:
    """Return the type X of a field that is declared as X or ``X | None``."""
    kinds = [each for each in get_args(kind) if each is not type(None)]
    return kinds[0] if kinds else kind


def _default_text(each: "Field[Any]") -> str:
    if each.default is MISSING or each.default is None:
        return ""
    is_float = isinstance(each.default, float)
    return f" (default: {each.default:g})" if is_float else f" (default: {each.default})"
