"""The source files that a module runs: itself and what it imports of this package, transitively."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

_PACKAGE = __name__.partition(".")[0]


def imported_files(*modules: str) -> list[Path]:
    """Return the files of some modules and of all that they import of this package.

    Imports are read from the source, those inside functions too. What stands under
    ``if TYPE_CHECKING`` never runs and does not count.

    Args:
        modules: dotted names, of this package or of a user's own model.

    Returns:
        The files, in the order of their modules' names.
    """
    files: dict[str, Path] = {}
    pending = list(modules)
    while pending:
        name = pending.pop()
        path = _source(name)
        if path is None or name in files:
            continue
        files[name] = path
        pending += _imports(ast.parse(path.read_text(encoding="utf-8")))
    return [files[name] for name in sorted(files)]


def _source(name: str) -> Path | None:
    """Return the file of a module; None where the name is that of a class or a function."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # the parent is a module and no package
        return None
    return Path(spec.origin) if spec and spec.origin and spec.has_location else None


def _imports(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted names of this package that a syntax tree imports."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            names = []
        yield from (name for name in names if name.partition(".")[0] == _PACKAGE)
        yield from _imports(node)
