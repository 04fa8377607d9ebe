"""YAML files, shipped or the user's, and values of the command line. Nothing is ever evaluated."""

import ast
import logging
import re
import sys
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError


def properties_dir() -> Path:
    """Return the folder of shipped YAML files: in the installed package, else in the checkout.

    Raises:
        FileNotFoundError: the installation is incomplete.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "properties", package.parent / "properties"):
        if (folder / "overall.yaml").exists():
            return folder
    raise FileNotFoundError(
        f"the properties folder is neither in {package} nor next to it: the installation is "
        f"incomplete. Install again with: pip install ."
    )


def find_config_file(name: str | Path) -> Path:
    """Find a config file: as given, else among the shipped ones (``properties/quick.yaml``).

    Raises:
        FileNotFoundError: there is neither.
    """
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


#: Most values that a file may have once its aliases are written out.
MAX_VALUES = 1_000_000


class _Loader(yaml.SafeLoader):
    """YAML that reads ``1e-3`` as a number, as RecBole's files expect, and limits aliases."""

    def construct_document(self, node: yaml.Node) -> Any:
        """Return the value of a document whose aliases neither explode nor contain themselves."""
        if _count_values(node, {}) > MAX_VALUES:
            raise ConstructorError(
                None, None, f"aliases make more than {MAX_VALUES} values", node.start_mark
            )
        return super().construct_document(node)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.\d*)?[eE][-+]?\d+$|^[-+]?\d[\d_]*\.\d*$|^[-+]?\.\d+$"),
    list("-+.0123456789"),
)


def _count_values(node: yaml.Node, counts: dict[int, int | None]) -> int:
    """Return the number of values under a node, each alias counted as what it stands for.

    Args:
        node: root of a graph whose shared nodes are aliases.
        counts: results by the node's id, filled here; None while a node is being counted.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in counts:
        counts[id(node)] = None
        children = node.value
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        counts[id(node)] = 1 + sum(_count_values(child, counts) for child in children)
    count = counts[id(node)]
    if count is None:
        raise ConstructorError(None, None, "an alias contains itself", node.start_mark)
    return count


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of ``key: value`` lines.

    Raises:
        ValueError: one line; the file is not YAML, is no mapping, or has a key that is not text.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - safe
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {_problem(error)}") from error
    except RecursionError:
        raise ValueError(f"{path}: a value is nested too deeply.") from None
    if not isinstance(content, (dict, type(None))):
        raise ValueError(f"{path}: expected `key: value` lines, found {type(content).__name__}.")
    for key in content or {}:
        if not isinstance(key, str):
            raise ValueError(f"{path}: keys are names, found {key!r} ({type(key).__name__}).")
    return content or {}


def _problem(error: Exception) -> str:
    """Return an error of the YAML reader in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}."
    return " ".join(str(error).split())


def parse_value(text: str) -> Any:
    """Return the value that a text of the command line stands for.

    It is a Python literal, true, false, none, a YAML list or mapping, or else the text itself.
    Nothing is evaluated: ``[3,inf)`` and ``__import__('os')`` are text.

    Raises:
        ValueError: the value is nested too deeply.
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
        except RecursionError:
            raise ValueError(f"the value {text[:30]}... is nested too deeply.") from None
    return text


def read_yaml_beside(model_class: type) -> dict[str, Any]:
    """Return the content of ``<Class>.yaml`` next to the module of a user's model, {} without.

    Raises:
        ValueError: the file is not YAML, or not a mapping.
    """
    source = getattr(sys.modules[model_class.__module__], "__file__", None)
    path = Path(source).with_name(f"{model_class.__name__}.yaml") if source else None
    return read_yaml(path) if path is not None and path.exists() else {}
