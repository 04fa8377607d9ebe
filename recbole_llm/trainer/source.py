"""The source files that a module runs: itself and all that it imports, transitively."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

_PACKAGE = __name__.partition(".")[0]


def imported_files(*modules: str) -> list[Path]:
    """Return the files of some modules and of all that they import, transitively.

    Followed are imports of this package and of a module's own top-level package, read from the
    source, those inside functions too; a user's model so counts with its helpers. RecBole is left
    out, whose version ``compat`` fixes. What stands under ``if TYPE_CHECKING`` never runs and does
    not count; neither do the ``__init__`` files above a module, which hold a docstring only.

    Args:
        modules: dotted names of modules.

    Returns:
        The files, in the order of their modules' names.
    """
    followed = {_PACKAGE, *(name.partition(".")[0] for name in modules)} - {"recbole"}
    files: dict[str, Path] = {}
    pending = list(modules)
    while pending:
        name = pending.pop()
        path = None if name in files else _source(name)
        if path is None:
            continue
        files[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        imports = _imports(ast.parse(path.read_text(encoding="utf-8")), package)
        pending += [other for other in imports if other.partition(".")[0] in followed]
    return [files[name] for name in sorted(files)]


def _source(name: str) -> Path | None:
    """Return the file of a module, found without importing it; None for a class or a function."""
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.has_location else None
    for folder in spec.submodule_search_locations or ():
        path = Path(folder, *rest)
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                return file
    return None


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield the dotted names that a syntax tree imports, seen from a module of ``package``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                module = importlib.util.resolve_name("." * node.level + module, package)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        yield from _imports(node, package)
