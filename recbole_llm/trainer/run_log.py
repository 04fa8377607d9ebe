"""The log of a run: on the console, and in a file."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import colorlog
from recbole.utils.logger import RemoveColorFilter

from recbole_llm.processes import is_main
from recbole_llm.secrets import SecretsFilter

#: For ``extra`` of a log call: the line goes to the file, and to the console with --verbose.
FILE_ONLY = {"file_only": True}


@contextmanager
def logging_to(path: Path, level_name: str) -> Iterator[logging.Logger]:
    """Log to the console and to ``path``, whose folder is made, until the context ends.

    Of several processes the main one does; the others log their errors to the console.

    Args:
        path: log file; lines are added to one that exists.
        level_name: ``debug``, ``info``, ``warning``, ...; another name counts as ``info``.
    """
    level = logging.getLevelNamesMapping().get(level_name.upper(), logging.INFO)
    handlers: list[logging.Handler] = []
    if is_main():
        path.parent.mkdir(parents=True, exist_ok=True)
        to_file = logging.FileHandler(path, encoding="utf-8")
        to_file.addFilter(SecretsFilter())  # first, as it puts arguments into the text
        to_file.addFilter(RemoveColorFilter())
        to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        handlers.append(to_file)
    else:
        level = logging.ERROR
    console = logging.StreamHandler()
    console.setFormatter(  # without colours where the stream is no terminal
        colorlog.TTYColoredFormatter(
            "%(log_color)s%(asctime)s %(message)s", "%H:%M:%S", stream=console.stream
        )
    )
    console.setLevel(level)
    handlers.append(console)
    if level > logging.DEBUG:
        console.addFilter(lambda line: not getattr(line, "file_only", False))
    root = logging.getLogger()
    before = root.level
    root.setLevel(level)
    for handler in handlers:
        handler.addFilter(SecretsFilter())
        root.addHandler(handler)
    try:
        yield root
    finally:
        root.setLevel(before)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
