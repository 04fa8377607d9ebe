"""Any text as Markdown that shows it: no mark-up, HTML, link or line break comes out of a text."""

import re

from recbole_llm.report.text import one_line

# An underscore between letters and an ampersand that begins no entity stand for themselves.
_MARKS = re.compile(r"[\\`*\[\]|~$<>]|(?<![^\W_])_|_(?![^\W_])|(?<!\S)#|&(?=#?\w+;)")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_CODE = re.compile(r"(`[^`|<]+`)")
# What makes a list, a rule or the underline of a heading of the line that it begins.
_BLOCK = re.compile(r"[-+=]|\d+(?=[.)])")


def inline(text: str) -> str:
    """Return a text for a cell, a heading or a caption."""
    return _MARKS.sub(_escape, one_line(text))


def sentence(text: str) -> str:
    """Return a text for a line of its own; a part of it in backticks stays code."""
    parts = _CODE.split(one_line(text))
    shown = "".join(part if i % 2 else _MARKS.sub(_escape, part) for i, part in enumerate(parts))
    block = _BLOCK.match(shown)
    if block is None:
        return shown
    end = block.end() - (not block[0].isdigit())
    return f"{shown[:end]}\\{shown[end:]}"


def _escape(match: re.Match[str]) -> str:
    return _ENTITIES.get(match[0], f"\\{match[0]}")
