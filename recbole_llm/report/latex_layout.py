"""The width of a LaTeX table: one column of a two-column page, or both.

Widths are estimates for a 10 pt article of two columns: a column of 240 pt in a page of 500 pt.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

COLUMN_PT, PAGE_PT = 235.0, 495.0
_SIZES = (("", 1.0), (r"\small", 0.9), (r"\footnotesize", 0.8), (r"\scriptsize", 0.7))
_CHAR_PT = 5.2  # of normal size; the mean of a label's letters and of digits
_SPREAD_PT = 4.2  # of a character in \scriptsize, at every size
_GAPS = (6.0, 3.0, 2.0)  # \tabcolsep; the first is LaTeX's own
_SPREAD = re.compile(r"\{\\scriptsize(.*?)\}")


class Layout(NamedTuple):
    """Environment, font and gap of a table.

    Attributes:
        environment: ``table`` for one column of the page, ``table*`` for both.
        commands: lines that set the font's size and the gap between columns.
        fits: whether the estimated width is within the page.
    """

    environment: str
    commands: list[str]
    fits: bool


def layout(rows: Sequence[Sequence[str]]) -> Layout:
    """Return the first layout that rows of LaTeX cells fit into, else the smallest.

    One column is tried down to footnote size, then both columns down to script size.
    """
    for environment, limit, sizes in (("table", COLUMN_PT, 3), ("table*", PAGE_PT, 4)):
        for command, scale in _SIZES[:sizes]:
            if _width(rows, scale, _GAPS[0]) <= limit:
                return Layout(environment, _commands(command, _GAPS[0]), True)
    for gap in _GAPS[1:]:
        if _width(rows, _SIZES[-1][1], gap) <= PAGE_PT:
            return Layout("table*", _commands(_SIZES[-1][0], gap), True)
    return Layout("table*", _commands(_SIZES[-1][0], _GAPS[-1]), False)


def _commands(size: str, gap: float) -> list[str]:
    gaps = [] if gap == _GAPS[0] else [rf"\setlength{{\tabcolsep}}{{{gap:g}pt}}"]
    return [*([size] if size else []), *gaps]


def _width(rows: Sequence[Sequence[str]], scale: float, gap: float) -> float:
    columns = zip(*rows, strict=True)
    return sum(max(_cell_pt(cell, scale) for cell in column) + 2 * gap for column in columns)


def _cell_pt(cell: str, scale: float) -> float:
    spread = "".join(_SPREAD.findall(cell))
    shown = _SPREAD.sub("", cell)
    return _CHAR_PT * scale * n_shown(shown) + _SPREAD_PT * n_shown(spread)


def n_shown(cell: str) -> int:
    r"""Return about how many characters a LaTeX cell shows: a command without braces is one."""
    text = re.sub(r"\\(?:textbf|textit|underline|mathrm)\b", "", cell)
    text = re.sub(r"\\[a-zA-Z]+|\\.", "x", text)
    return len(re.sub(r"[{}$]", "", text))
