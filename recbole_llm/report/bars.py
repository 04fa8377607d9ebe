"""The rows of a table as bars with their spread, to stand next to the table."""

from pathlib import Path
from typing import Any

from recbole_llm.plotting import figure_style, panel_width, panels, plain_text, save_figure, shade
from recbole_llm.report.table import Line, Table
from recbole_llm.report.text import label_text, short_metric

_COLUMNS = 2  # panels next to each other
_FILL, _BEST = shade(0.72), shade(0.25)


def draw_bars(table: Table, metric: str, stem: Path) -> tuple[list[Path], str]:
    """Draw a panel for each dataset with a number in one metric.

    Args:
        table: the table.
        metric: metric of the bars, such as ``recall@20``; the first column's if the table has
            no such column.
        stem: path of the files without a suffix.

    Returns:
        The PDF and the PNG, or no file without a measured number; and a caption.
    """
    names = [column.metric for column in table.columns]
    metric = metric if metric in names else names[0]
    panel_columns = [
        (i, column.dataset)
        for i, column in enumerate(table.columns)
        if column.metric == metric
        and any(line.numbers[i] is not None and not line.published for line in table.lines)
    ]
    if not panel_columns:
        return [], ""
    n_columns = min(len(panel_columns), _COLUMNS)
    n_rows = -(-len(panel_columns) // n_columns)
    height = 0.6 + 0.2 * len(table.lines)
    with figure_style():
        figure, axes = panels(n_rows, n_columns, width=panel_width(n_columns), height=height)
        for axis in axes.flat[len(panel_columns) :]:
            axis.set_axis_off()
        for axis, (i, dataset) in zip(axes.flat, panel_columns, strict=False):
            _draw_panel(axis, table, i)
            axis.set_title(plain_text(dataset))
            axis.set_xlabel(f"{short_metric(metric)} (test)")
        files = save_figure(figure, stem)
    return files, _caption(table, [i for i, _ in panel_columns], metric)


def _draw_panel(axis: Any, table: Table, column: int) -> None:
    lines = [line for line in table.lines if line.numbers[column] is not None]
    for position, line in enumerate(lines):
        number = line.numbers[column]
        if number is not None:
            error = {"ecolor": "black", "capsize": 2, "error_kw": {"elinewidth": 1}}
            axis.barh(position, number.mean, xerr=number.std, **error, **_look(line, number.rank))
    axis.set_yticks(range(len(lines)), [plain_text(label_text(line)) for line in lines])
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_axisbelow(True)
    axis.margins(x=0.08)


def _look(line: Line, rank: int) -> dict[str, Any]:
    if line.published:
        return {"color": "white", "edgecolor": "0.4", "hatch": "////"}
    return {"color": _BEST if rank == 1 else _FILL, "edgecolor": "black"}


def _caption(table: Table, columns: list[int], metric: str) -> str:
    numbers = [line.numbers[i] for line in table.lines for i in columns]
    parts = [f"{short_metric(metric)} on test"]
    if any(number is not None and number.std is not None for number in numbers):
        parts.append("whiskers are one standard deviation over seeds")
    if any(number is not None and number.rank == 1 for number in numbers):
        parts.append("the best measured row is darkest")
    if any(line.published and any(line.numbers[i] for i in columns) for line in table.lines):
        parts.append("hatched rows are published numbers")
    return "; ".join(parts) + "."
