"""The look of every figure, and the one way to save it: PDF and PNG with the same bytes each time.

Figures can be read in grey and by the colour-blind: colours are those of cividis, and each line has
a dash pattern, a marker and a shade of its own. Nothing here changes matplotlib's state outside its
own blocks, so a notebook keeps its style and back end.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import colormaps, style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray

from recbole_llm.files import replacing

GREYS = "Greys"  # colour map of densities
COLOURS = "cividis"  # colour map of values: lightness rises evenly, for every kind of sight
ACCENT = "tab:blue"  # points on top of a grey map
FILLS = ("0.55", "0.85")  # bars that stand next to each other
HATCHES = ("///", "")

_STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "figure.titlesize": 9,
    "legend.fontsize": 7,
    "lines.markersize": 4,
    "axes.grid": True,
    "grid.color": "0.9",
}
_DPI = 200
# Neither the date nor the version of matplotlib: the same data gives the same file.
_METADATA: dict[str, dict[str, None]] = {
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".png": {"Software": None},
}


class LineStyle(NamedTuple):
    """Dash pattern, marker and shade of one line."""

    dashes: str
    marker: str
    colour: str


#: Widths in inches of one column and of both in a paper of two columns.
COLUMN_WIDTH, PAGE_WIDTH = 3.35, 7.0
_MARGIN = 0.4  # inches that a figure is wider than its panels


def shade(value: float) -> str:
    """Return a colour of ``COLOURS`` as ``#rrggbb``, for a value from 0 (dark) to 1 (light)."""
    # The lightest yellow is left out: it cannot be seen on white.
    return str(to_hex(colormaps[COLOURS](0.85 * value)))


_LINES = tuple(
    LineStyle(dashes, marker, shade(lightness))
    for dashes, marker, lightness in (
        ("-", "o", 0.0),
        ("--", "s", 0.6),
        (":", "^", 0.3),
        ("-.", "D", 0.85),
        ("-", "v", 0.45),
        ("--", "P", 0.15),
        (":", "X", 1.0),
        ("-.", "*", 0.7),
    )
)


def line_style(index: int) -> LineStyle:
    """Return the style of a figure's line number ``index``, from 0; the styles repeat after 8."""
    return _LINES[index % len(_LINES)]


def panel_width(n_columns: int) -> float:
    """Return the width of a panel in inches: one alone fills a column, more share the page."""
    return ((COLUMN_WIDTH if n_columns == 1 else PAGE_WIDTH) - _MARGIN) / n_columns


def plain_text(text: str) -> str:
    """Return a name as matplotlib shows it: no part is a formula, and a legend leaves none out."""
    escaped = text.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def figure_style() -> AbstractContextManager[None]:
    """Return the block in which a figure is made, drawn and saved.

    The style starts from matplotlib's defaults, so a ``matplotlibrc`` of the user has no effect.
    """
    return style.context(["default", _STYLE])


def panels(
    n_rows: int, n_columns: int, width: float = 3.2, height: float = 2.4, **options: Any
) -> tuple[Figure, NDArray[Any]]:
    """Return a figure and its axes, an array (n_rows, n_columns).

    Args:
        n_rows: number of rows of panels.
        n_columns: number of columns of panels.
        width: width of a panel in inches.
        height: height of a panel in inches.
        options: further arguments of matplotlib's ``Figure.subplots``, such as ``sharex``.
    """
    figure = Figure(figsize=(width * n_columns + _MARGIN, height * n_rows + 0.2))
    FigureCanvasAgg(figure)
    return figure, figure.subplots(n_rows, n_columns, squeeze=False, **options)


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write ``<stem>.pdf`` and ``<stem>.png``, and return both paths, the PDF first.

    Args:
        figure: the drawn figure.
        stem: path without a suffix; a dot in its name is kept, and its folder is made if missing.
    """
    figure.tight_layout()
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = []
    for suffix, metadata in _METADATA.items():
        path = stem.with_name(stem.name + suffix)
        with replacing(path) as file:
            figure.savefig(file, format=suffix[1:], dpi=_DPI, metadata=metadata)
        files.append(path)
    return files
