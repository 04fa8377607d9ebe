"""A command's options, declared once as fields of a dataclass: default, help, choices, range.

The command line makes its options from the fields, and the dataclass checks its own values::

    @dataclass(frozen=True)
    class Settings:
        batch_size: int = option(64, "texts encoded at a time", at_least=1)

        def __post_init__(self) -> None:
            check_options(self)
"""

from dataclasses import field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from recbole_llm.registry import suggest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class Declaration(NamedTuple):
    """What a field says about its option; a range holds for values that are not None.

    Attributes:
        help_text: text of the command's ``--help``, without the default.
        group: heading in the help under which the option is listed; "" for none.
        choices: allowed values; empty for any.
        at_least: least allowed number.
        above: number that the value must exceed.
    """

    help_text: str
    group: str = ""
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None


def option(default: Any, help_text: str, **declared: Any) -> Any:
    """Return a dataclass field that declares an option.

    Args:
        default: value of an option that is not given; ``MISSING`` makes the option required.
        help_text: text of the command's ``--help``.
        declared: the other attributes of ``Declaration``.
    """
    return field(default=default, metadata={"option": Declaration(help_text, **declared)})


def declared_options(
    settings: "DataclassInstance | type[DataclassInstance]",
) -> dict[str, Declaration]:
    """Return the declarations of a dataclass by name, in the order of its fields."""
    return {each.name: each.metadata["option"] for each in fields(settings)}


def check_options(settings: "DataclassInstance") -> None:
    """Check every value of a settings object against its declaration.

    Raises:
        ValueError: a value is not one of the choices or out of range; one line names the option.
    """
    for name, declared in declared_options(settings).items():
        value = getattr(settings, name)
        if value is None:
            continue
        if declared.choices and value not in declared.choices:
            raise ValueError(
                f"--{name} must be one of {', '.join(declared.choices)}, got {value!r}."
                f"{suggest(str(value), list(declared.choices))}"
            )
        if declared.at_least is not None and not value >= declared.at_least:
            raise ValueError(f"--{name} must be at least {declared.at_least:g}, got {value}.")
        if declared.above is not None and not value > declared.above:
            raise ValueError(f"--{name} must be above {declared.above:g}, got {value}.")
