"""A method of RecBole, compiled again from its own text with edits."""

import inspect
import sys
import textwrap
from collections.abc import Callable
from types import ModuleType
from typing import Any

SUPPORTED_RECBOLE = "1.2.1"


def rewrite(owner: type, method: str, *edits: tuple[str, str], times: int = 1) -> None:
    """Recompile ``owner.method`` with each (old, new) text edit applied.

    Args:
        owner: class of RecBole.
        method: name of its method.
        edits: old text and new text.
        times: how often each old text stands in the upstream source.

    Raises:
        RuntimeError: an old text is not in the upstream source ``times`` times.
    """
    function: Callable[..., Any] = inspect.unwrap(getattr(owner, method))
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in edits:
        if source.count(old) != times:
            raise RuntimeError(
                f"{owner.__module__}.{owner.__qualname__}.{method} is not the one of RecBole "
                f"{SUPPORTED_RECBOLE}: expected {old!r} {times} times, found it "
                f"{source.count(old)} times."
            )
        source = source.replace(old, new)
    module: ModuleType = sys.modules[owner.__module__]
    scope: dict[str, Any] = {}
    code = compile(source, inspect.getfile(function), "exec")
    exec(code, module.__dict__, scope)  # noqa: S102 - upstream's own text, edited above
    setattr(owner, method, scope[method])
