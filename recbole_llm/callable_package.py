"""Packages that can be called: ``recbole_llm.report(...)`` next to ``recbole_llm.report.write``."""

import importlib
import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # By name, as the API is above the packages that it calls.
        api = importlib.import_module("recbole_llm.api")
        return getattr(api, self.__name__.rpartition(".")[2])(*args, **kwargs)


def make_callable(name: str) -> None:
    """Let calls of an imported package go to the function of its name in ``recbole_llm.api``.

    Args:
        name: full name of the package, such as ``recbole_llm.report``.
    """
    sys.modules[name].__class__ = _CallablePackage
