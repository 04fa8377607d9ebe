"""recbole-llm: LLM and multimodal recommenders in RecBole, under one honest protocol.

Importing this package alone loads no torch; its functions are imported when first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from recbole_llm.version import __version__

if TYPE_CHECKING:
    from recbole_llm.api import LoadedRun, encode, load, prepare, report, run, split, sweep

_FUNCTIONS = ("LoadedRun", "encode", "load", "prepare", "report", "run", "split", "sweep")

__all__ = [
    "LoadedRun",
    "__version__",
    "encode",
    "load",
    "prepare",
    "report",
    "run",
    "split",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _FUNCTIONS:
        raise AttributeError(f"module 'recbole_llm' has no attribute {name!r}")
    if name in ("prepare", "report", "sweep"):  # packages that can be called
        return importlib.import_module(f"recbole_llm.{name}")
    from recbole_llm import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_FUNCTIONS])
