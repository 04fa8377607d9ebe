"""The models, found by name. Importing this module imports none of them."""

import difflib
import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any, NamedTuple

from recbole_llm.yaml_io import properties_dir

_CLASS = re.compile(r"^class (\w+)\b", re.MULTILINE)


def _find_models() -> dict[str, str]:
    """Return our models, class name -> module below ``recbole_llm.model``, importing none.

    A class of ``recbole_llm/model`` is a model if ``properties/model`` has a YAML of its name.
    """
    named = {path.stem for path in (properties_dir() / "model").glob("*.yaml")}
    folder = Path(__file__).resolve().parent / "model"
    found = {}
    for path in sorted(folder.rglob("*.py")):
        for name in named.intersection(_CLASS.findall(path.read_text(encoding="utf-8"))):
            found[name] = ".".join(path.relative_to(folder).with_suffix("").parts)
    return found


#: Our models: class name -> module of ``recbole_llm.model`` that defines it.
MODELS = _find_models()

_RECBOLE_GROUPS = (
    "general_recommender",
    "sequential_recommender",
    "context_aware_recommender",
    "knowledge_aware_recommender",
)


class StageSpec(NamedTuple):
    """One earlier stage of a staged model, as its ``required_stages(config)`` names it.

    Attributes:
        model: name of the model that is trained; it has ``export() -> dict[str, Tensor]``.
        keys: settings of the staged model that are handed on under the same name.
    """

    model: str
    keys: tuple[str, ...] = ()


def recbole_models() -> dict[str, str]:
    """Return RecBole's own models, class name -> module, found without importing them."""
    found = {}
    for group in _RECBOLE_GROUPS:
        spec = importlib.util.find_spec(f"recbole.model.{group}")
        if spec is None or spec.origin is None:
            continue
        init = Path(spec.origin).read_text(encoding="utf-8")
        for line in init.splitlines():
            words = line.split()
            if len(words) == 4 and words[0] == "from" and words[2] == "import":
                found[words[3]] = words[1]
    return found


def get_model_class(name: str) -> type:
    """Find a model class.

    Args:
        name: a model of ours, a model of RecBole, or ``package.module:Class`` for anybody else's.

    Raises:
        ValueError: there is no such model; the nearest names are suggested.
    """
    importlib.import_module("recbole_llm.compat")  # repairs RecBole before it is imported
    if ":" in name:
        return _import_user_model(name)
    theirs = recbole_models()
    if name in MODELS:
        module = importlib.import_module(f"recbole_llm.model.{MODELS[name]}")
    elif name in theirs:
        try:
            module = importlib.import_module(theirs[name])
        except ImportError as error:
            raise ValueError(f"model {name!r} of RecBole cannot be imported: {error}") from error
    else:
        raise ValueError(
            f"unknown model {name!r}.{suggest(name, [*MODELS, *theirs])} "
            f"Ours: {', '.join(sorted(MODELS))}; or any RecBole model; or package.module:Class. "
            f"`run_recbole --list-models` lists them all."
        )
    return getattr(module, name)


def get_hooks(model_class: type) -> Any:
    """Return the hooks of a model class, defaults included: ``hooks_of`` of ``model/base.py``.

    For modules below the models, which reach them through this registry.
    """
    return importlib.import_module("recbole_llm.model.base").hooks_of(model_class)


def _import_user_model(name: str) -> type:
    module_name, _, class_name = name.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), class_name]):
        raise ValueError(f"model {name!r}: a model of your own is given as package.module:Class.")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"model {name!r}: cannot import module {module_name!r}: {error}. "
            f"It must be installed or on PYTHONPATH."
        ) from error
    except Exception as error:  # the module's own code raises whatever it does
        raise ValueError(
            f"model {name!r}: module {module_name!r} fails on import: "
            f"{type(error).__name__}: {error}."
        ) from error
    if not isinstance(getattr(module, class_name, None), type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise ValueError(
            f"model {name!r}: module {module_name!r} has no class {class_name!r}."
            f"{suggest(class_name, classes)}"
        )
    return getattr(module, class_name)


def suggest(name: str, known: list[str], prefix: str = "") -> str:
    """Return `` Did you mean 'x'?``, or nothing when no known name is near.

    Args:
        name: unknown name.
        known: known names; one that has ``name`` as a word, as ``sample_num`` has ``num``, is near.
        prefix: text before the suggested name, such as ``eval_args.``.
    """
    lower = {key.lower(): key for key in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    near = near or [key for key in lower if name.lower() in key.split("_")]
    return f" Did you mean {prefix + lower[near[0]]!r}?" if near else ""
