"""Tables of metrics as LaTeX; the preamble needs the package ``booktabs`` and nothing else."""

from recbole_llm.report.table import Line, Number, Table
from recbole_llm.report.text import STAR_MEANS, digits, gain_text, label_text, short_metric

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "τ": r"$\tau$",
    "λ": r"$\lambda$",
    "γ": r"$\gamma$",
}


def to_latex(table: Table) -> str:
    """Return a ``table`` with one group of columns for each dataset."""
    lines = _head(table)
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


def escape(text: str) -> str:
    """Return text in which no character has a meaning for LaTeX."""
    return "".join(_ESCAPES.get(char, char) for char in text)


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


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


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
