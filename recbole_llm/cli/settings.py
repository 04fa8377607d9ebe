"""Settings on the command line: ``--key=value`` for every key of RecBole, a model or a dataset."""

from collections.abc import Sequence
from typing import Any

from recbole_llm.yaml_io import parse_value

_SHORT = {"-m": "--model", "-d": "--dataset"}
_NAMES = ("model", "dataset")


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """Parse ``--key=value``, ``--key value`` and ``--flag`` (true) into settings.

    Args:
        words: what the shell passes, one word an argument; ``-m`` and ``-d`` are the model and the
            dataset.

    Returns:
        The values by key. ``model`` and ``dataset`` are text, ``config_files`` is a list of names
        (given as one text with spaces); all others are read as ``parse_value`` does.

    Raises:
        ValueError: an argument of another form, or a key given twice with different values.
    """
    settings: dict[str, Any] = {}
    rest = [_SHORT.get(word, word) for word in words]
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            raise ValueError(f"unexpected argument {word!r}; settings have the form --key=value.")
        key, equals, text = word[2:].partition("=")
        if not equals and rest and not rest[0].startswith("--"):
            text = rest.pop(0)
        elif not equals:
            text = "true"
        value = _value(key, text)
        if key in settings and settings[key] != value:
            raise ValueError(f"--{key} is given twice: {settings[key]!r} and {value!r}.")
        settings[key] = value
    return settings


def parse_data_settings(words: Sequence[str], model_option: str) -> dict[str, Any]:
    """Parse the settings of a command that reads a dataset and trains no recommender.

    Args:
        words: words from the shell, in the forms of ``parse_settings``.
        model_option: the option that names this command's own model, such as ``--encoder``.

    Raises:
        ValueError: a malformed argument, or ``--model``.
    """
    settings = parse_settings(words)
    if "model" in settings:
        raise ValueError(
            f"--model is not taken here: no recommender is trained, and the command's own model is "
            f"{model_option}."
        )
    return settings


def refuse_settings(words: Sequence[str]) -> None:
    """Raise a ValueError that names the first word which a command without settings got."""
    if words:
        raise ValueError(f"unexpected argument {words[0]!r}; this command takes no settings.")


def _value(key: str, text: str) -> Any:
    if key == "config_files":
        return text.split()
    return text if key in _NAMES else parse_value(text)
