"""The look of every figure, and the one way to save it: PDF and PNG with the same bytes each time.

Figures can be read in grey: each line has a dash pattern, a marker and a shade of its own. Nothing
here changes matplotlib's state outside its own blocks, so a notebook keeps its style and back end.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from recbole_llm.files import replacing

GREYS = "Greys"  # colour map of heat maps and densities
ACCENT = "tab:blue"  # points on top of a grey map
FILLS = ("0.55", "0.85")  # bars that stand next to each other
HATCHES = ("///", "")

_STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "figure.titlesize": 10,
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


_LINES = (
    LineStyle("-", "o", "0.0"),
    LineStyle("--", "s", "0.45"),
    LineStyle(":", "^", "0.25"),
    LineStyle("-.", "D", "0.6"),
)


def line_style(index: int) -> LineStyle:
    """Return the style of a figure's line number ``index``, from 0; the styles repeat after 4."""
    return _LINES[index % len(_LINES)]


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
    figure = Figure(figsize=(width * n_columns + 0.4, height * n_rows + 0.2))
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
