"""Tables of metrics as LaTeX; the preamble needs the package ``booktabs`` and nothing else.

Every label and title compiles with pdfLaTeX, XeLaTeX and LuaLaTeX of 2020 or later.
"""

from recbole_llm.report.latex_text import escape, unmapped
from recbole_llm.report.table import Line, Number, Table
from recbole_llm.report.text import STAR_MEANS, digits, gain_text, label_text, short_metric


def to_latex(table: Table) -> str:
    """Return a ``table`` with one group of columns for each dataset.

    Characters that LaTeX has no command for are written as code points, such as ``U+6DF1``; a
    comment above the table names them.
    """
    lines = [*_code_points(table), *_head(table)]
    for line in table.lines:
        cells = [_cell(number, line) for number in line.numbers]
        lines.append(_row([escape(label_text(line)), *cells]))
    if any(gain is not None for gain in table.gains):
        gains = [escape(gain_text(gain)) for gain in table.gains]
        lines += [r"\midrule", _row([r"\textit{Improvement}", *gains])]
    lines += [r"\bottomrule", r"\end{tabular}"]
    notes = [*table.notes, *([STAR_MEANS] if table.has_star else [])]
    lines += [rf"\par\footnotesize {escape(note)}" for note in notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _head(table: Table) -> list[str]:
    datasets = list(dict.fromkeys(column.dataset for column in table.columns))
    width = len(table.columns) // len(datasets)
    groups = [rf"\multicolumn{{{width}}}{{c}}{{{escape(name)}}}" for name in datasets]
    rules = "".join(
        rf"\cmidrule(lr){{{2 + i * width}-{1 + (i + 1) * width}}}" for i in range(len(datasets))
    )
    return [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{escape(table.title)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        _row(["", *groups]),
        rules,
        _row(["Model", *(escape(short_metric(column.metric)) for column in table.columns)]),
        r"\midrule",
    ]


def _code_points(table: Table) -> list[str]:
    texts = [table.title, *table.notes, *(label_text(line) for line in table.lines)]
    texts += [text for column in table.columns for text in column]
    chars = dict.fromkeys(char for text in texts for char in unmapped(text))
    if not chars:
        return []
    names = ", ".join(f"{escape(char)} is {char}" for char in chars)
    return [f"% Characters that LaTeX has no command for: {names}."]


def _row(cells: list[str]) -> str:
    first, *rest = cells
    # The rule or row above would take these for its own: \\[1ex], \\*, \midrule[1pt].
    guard = "{}" if first[:1] in ("[", "*") else ""
    return " & ".join([guard + first, *rest]) + r" \\"


def _cell(number: Number | None, line: Line) -> str:
    if number is None:
        return "--"
    text = digits(number.mean)
    if line.published:
        return rf"\textit{{{text}}}"
    if number.rank:
        text = rf"\textbf{{{text}}}" if number.rank == 1 else rf"\underline{{{text}}}"
    if number.std is not None:
        text += rf"{{\scriptsize$\pm${digits(number.std)}}}"
    return text + ("$^{*}$" if number.significant else "")
