"""Shipped and user's YAML files, and values from the command line. Nothing is ever evaluated."""

import ast
import logging
import re
import sys
from pathlib import Path
from typing import Any

import yaml


def properties_dir() -> Path:
    """Return the folder of shipped YAML files: in the installed package, else in the checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "properties", package.parent / "properties"):
        if (folder / "overall.yaml").exists():
            return folder
    raise FileNotFoundError(
        f"the properties folder is neither in {package} nor beside it: the installation is "
        f"incomplete. Install again with: pip install ."
    )


def find_config_file(name: str | Path) -> Path:
    """Find a config file: as given, else among the shipped ones (``properties/quick.yaml``)."""
    path = Path(name)
    if path.exists():
        return path
    shipped = properties_dir().joinpath(*[part for part in path.parts if part != "properties"])
    if not path.is_absolute() and shipped.exists():
        return shipped
    raise FileNotFoundError(
        f"config file {str(name)!r} does not exist, neither from {Path.cwd()} nor among the "
        f"shipped ones in {properties_dir()}."
    )


class _Loader(yaml.SafeLoader):
    """YAML that reads ``1e-3`` as a number, as RecBole's files expect."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.\d*)?[eE][-+]?\d+$|^[-+]?\d[\d_]*\.\d*$|^[-+]?\.\d+$"),
    list("-+.0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping of keys to values.

    Raises:
        ValueError: the file is not YAML, or not a mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - safe
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, (dict, type(None))):
        raise ValueError(f"{path}: expected `key: value` lines, found {type(content).__name__}.")
    for key in content or {}:
        if not isinstance(key, str):
            raise ValueError(f"{path}: keys are names, found {key!r} ({type(key).__name__}).")
    return content or {}


def parse_value(text: str) -> Any:
    """Read a command-line value: a Python literal, true/false, none, a YAML list or dict, or text.

    Nothing is evaluated: ``[3,inf)`` and ``__import__('os')`` are text.
    """
    word = text.strip().lower()
    if word in ("true", "false"):
        return word == "true"
    if word in ("none", "null", "~"):
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    if text.startswith(("[", "{")):
        try:
            return yaml.load(text, Loader=_Loader)  # noqa: S506 - safe
        except yaml.YAMLError:
            logging.getLogger().debug("%s is taken as text", text)
    return text


def read_yaml_beside(model_class: type) -> dict[str, Any]:
    """Read ``<Class>.yaml`` beside the module of a user's own model, when there is one."""
    source = getattr(sys.modules[model_class.__module__], "__file__", None)
    path = Path(source).with_name(f"{model_class.__name__}.yaml") if source else None
    return read_yaml(path) if path is not None and path.exists() else {}
