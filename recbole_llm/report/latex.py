"""Tables as LaTeX; the preamble needs the package ``booktabs`` and nothing else.

Every label and title compiles with pdfLaTeX, XeLaTeX and LuaLaTeX of 2020 or later. A table is as
wide as a column of a two-column page or, as ``table*``, the page; one that is wider is broken into
blocks of datasets that stand above each other.
"""

from collections.abc import Iterable, Sequence

from recbole_llm.report.contents import PlainTable
from recbole_llm.report.latex_layout import layout, n_shown
from recbole_llm.report.latex_text import escape, unmapped
from recbole_llm.report.table import Line, Number, Table
from recbole_llm.report.text import digits, gain_text, label_text, legend, short_metric

_PACKAGES = r"% Needs \usepackage{booktabs} in the preamble."
_LONGEST = 40  # characters of a text that stands on one line of a cell


def to_latex(table: Table, label: str) -> str:
    r"""Return a ``table`` or ``table*`` with one group of columns for each dataset.

    Characters that LaTeX has no command for are written as code points, such as ``U+6DF1``; a
    comment above the table names them.

    Args:
        table: the table.
        label: name for ``\ref``, after ``tab:``.
    """
    texts = [table.title, *table.notes, *(label_text(line) for line in table.lines)]
    texts += [text for column in table.columns for text in column]
    blocks = _blocks(table)
    found = layout(max((_rows(table, block) for block in blocks), key=_n_shown))
    tabulars = [_tabular(table, block) for block in blocks]
    body = [line for tabular in tabulars for line in (r"\par\medskip", *tabular)][1:]
    notes = [legend(table), *table.notes]
    head = _head(table.title, label, texts, found.environment, found.commands)
    return "\n".join([*head, *body, *_foot(notes, found.environment)])


def plain_to_latex(table: PlainTable, label: str) -> str:
    """Return a table of texts; a long last column has lines that break."""
    rows = [list(map(escape, row)) for row in (table.heads, *table.rows)]
    is_long = max(n_shown(row[-1]) for row in rows) > _LONGEST
    narrow = [[*row[:-1], "x" * _LONGEST] if is_long else row for row in rows]
    found = layout(narrow)
    aligned = [_alignment([row[i] for row in table.rows]) for i in range(len(table.heads))]
    aligned[-1] = r"p{.5\linewidth}" if is_long else aligned[-1]
    texts = [table.title, table.note, *table.heads, *(cell for row in table.rows for cell in row)]
    head = _head(table.title, label, texts, found.environment, found.commands)
    lines = [
        rf"\begin{{tabular}}{{{''.join(aligned)}}}",
        r"\toprule",
        _row(rows[0]),
        r"\midrule",
        *map(_row, rows[1:]),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join([*head, *lines, *_foot([table.note], found.environment)])


def _alignment(cells: Sequence[str]) -> str:
    return "r" if any(cells) and all(cell[:1].isdigit() for cell in cells if cell) else "l"


def _head(
    title: str, label: str, texts: Iterable[str], environment: str, commands: Sequence[str]
) -> list[str]:
    chars = dict.fromkeys(char for text in texts for char in unmapped(text))
    names = ", ".join(f"{escape(char)} is {char}" for char in chars)
    comment = [f"% Characters that LaTeX has no command for: {names}."] if chars else []
    return [
        *comment,
        _PACKAGES,
        rf"\begin{{{environment}}}[t]",
        r"\centering",
        rf"\caption{{{escape(title)}}}",
        rf"\label{{tab:{label}}}",
        *commands,
    ]


def _foot(notes: Iterable[str], environment: str) -> list[str]:
    lines = [rf"\par\footnotesize {escape(note)}" for note in notes if note]
    return [*lines, rf"\end{{{environment}}}", ""]


def _blocks(table: Table) -> list[list[int]]:
    """Return the columns of each block: all in one, or as many datasets as the page is wide."""
    datasets = list(dict.fromkeys(column.dataset for column in table.columns))
    blocks: list[list[int]] = []
    for dataset in datasets:
        columns = [i for i, column in enumerate(table.columns) if column.dataset == dataset]
        joined = [*(blocks[-1] if blocks else []), *columns]
        if blocks and layout(_rows(table, joined)).fits:
            blocks[-1] = joined
        else:
            blocks.append(columns)
    return blocks


def _n_shown(rows: Sequence[Sequence[str]]) -> int:
    return sum(max(map(n_shown, column)) for column in zip(*rows, strict=True))


def _rows(table: Table, block: Sequence[int]) -> list[list[str]]:
    """Return the cells of a block: the heading, the lines, and the improvement if there is one."""
    heads = [escape(short_metric(table.columns[i].metric)) for i in block]
    rows = [["Model", *heads]]
    for line in table.lines:
        rows.append([escape(label_text(line)), *(_cell(line.numbers[i], line) for i in block)])
    if any(gain is not None for gain in table.gains):
        rows.append([r"\textit{Improvement}", *(escape(gain_text(table.gains[i])) for i in block)])
    return rows


def _tabular(table: Table, block: Sequence[int]) -> list[str]:
    datasets = list(dict.fromkeys(table.columns[i].dataset for i in block))
    width = len(block) // len(datasets)
    groups = [rf"\multicolumn{{{width}}}{{c}}{{{escape(name)}}}" for name in datasets]
    rules = "".join(
        rf"\cmidrule(lr){{{2 + i * width}-{1 + (i + 1) * width}}}" for i in range(len(datasets))
    )
    heads, *rows = map(_row, _rows(table, block))
    n_lines = len(table.lines)
    gains = [r"\midrule", *rows[n_lines:]] if len(rows) > n_lines else []
    return [
        rf"\begin{{tabular}}{{l{'r' * len(block)}}}",
        r"\toprule",
        _row(["", *groups]),
        rules,
        heads,
        r"\midrule",
        *rows[:n_lines],
        *gains,
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _row(cells: Sequence[str]) -> str:
    first, *rest = cells
    # The rule or row above would take these for its own: \\[1ex], \\*, \midrule[1pt].
    guard = "{}" if first[:1] in ("[", "*") else ""
    return " & ".join([guard + first, *rest]) + r" \\"


def _cell(number: Number | None, line: Line) -> str:
    if number is None:
        return "--"
    text = escape(digits(number.mean))
    if line.published:
        return rf"\textit{{{text}}}"
    if number.rank:
        text = rf"\textbf{{{text}}}" if number.rank == 1 else rf"\underline{{{text}}}"
    if number.std is not None:
        text += rf"{{\scriptsize$\pm${escape(digits(number.std))}}}"
    return text + ("$^{*}$" if number.significant else "")
