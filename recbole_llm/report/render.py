"""Tables as Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Sequence

from recbole_llm.report.table import Column, Line, Number, Table

NO_RUN = "no run"
STAR_MEANS = (
    "* above the strongest other row, Wilcoxon and paired t test on users, two-sided, "
    "Holm-corrected over the table, both p < 0.05"
)
_SHORT = {"recall": "R", "ndcg": "N", "hit": "H"}


def short(metric: str) -> str:
    """Return ``R@10`` for ``recall@10``."""
    name, at, k = metric.partition("@")
    return f"{_SHORT.get(name, name)}{at}{k}"


def value_text(number: Number | None, published: bool = False) -> str:
    """Return ``.0412 ± .0003*``, or that there is no run."""
    if number is None:
        return "" if published else NO_RUN
    spread = f" ± {_digits(number.std)}" if number.std is not None else ""
    return f"{_digits(number.mean)}{spread}{'*' if number.significant else ''}"


def _digits(value: float) -> str:
    return f"{value:.4f}".removeprefix("0") if 0 <= value < 1 else f"{value:.4f}"


def label_text(line: Line) -> str:
    """Return a row's name, with what sets it apart."""
    return f"{line.label}{' (published)' if line.published else ''}{' LEAKY' if line.leaky else ''}"


def gain_text(gain: float | None) -> str:
    """Return ``+1.2 %``, or nothing."""
    return "" if gain is None else f"{gain:+.1f} %"


def seeds_text(line: Line) -> str:
    """Return how many seeds a measured row's numbers are means of."""
    counts = sorted({len(number.runs) for number in line.numbers if number is not None})
    return "" if line.published else "-".join(map(str, counts)) or "0"


def head(column: Column) -> str:
    """Return ``beauty R@10``."""
    return f"{column.dataset} {short(column.metric)}"


def to_markdown(table: Table) -> str:
    """Return a Markdown table: best bold, second underlined, published numbers in italics."""

    def cell(number: Number | None, line: Line) -> str:
        text = value_text(number, line.published).replace("*", "\\*")
        if line.published:
            return f"*{text}*" if text else ""
        if number is not None and number.rank:
            return f"**{text}**" if number.rank == 1 else f"<u>{text}</u>"
        return text

    heads = ["model", *map(head, table.columns), "seeds", "trials"]
    rows = [heads, ["---"] * len(heads)]
    for line in table.lines:
        name = f"*{label_text(line)}*" if line.published else label_text(line)
        cells = [cell(number, line) for number in line.numbers]
        rows.append([_pipe(name), *cells, seeds_text(line), line.budget])
    if any(gain is not None for gain in table.gains):
        rows.append([f"improvement of {table.compare}", *map(gain_text, table.gains), "", ""])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _pipe(text: str) -> str:
    return text.replace("|", "\\|")


def to_csv(table: Table) -> str:
    """Return one line a number, unrounded, with its records."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        "row source dataset metric mean std n_seeds rank significant leaky trials records".split()
    )
    for line in table.lines:
        for column, number in zip(table.columns, line.numbers, strict=True):
            kind = "published" if line.published else "measured"
            if number is None:
                values: list[object] = ["", "", 0, "", ""]
            else:
                std = "" if number.std is None else number.std
                star = int(number.significant)
                values = [number.mean, std, len(number.runs), number.rank or "", star]
            ids = " ".join(run.record.id for run in number.runs) if number else ""
            writer.writerow([line.label, kind, *column, *values, int(line.leaky), line.budget, ids])
    return out.getvalue()


def tests_to_csv(tables: Sequence[Table]) -> str:
    """Return the p-values behind the marks."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow("row against dataset metric n_users p_wilcoxon_holm p_t_holm".split())
    for table in tables:
        for test in table.tests:
            writer.writerow(
                [table.compare, test.other, *test.column, test.n_users, test.wilcoxon, test.t]
            )
    return out.getvalue()


_LATEX = {
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


def latex(text: str) -> str:
    """Escape text for LaTeX."""
    return "".join(_LATEX.get(char, char) for char in text)


def to_latex(table: Table) -> str:
    """Return a ``booktabs`` table; the preamble needs nothing else."""

    def cell(number: Number | None, line: Line) -> str:
        if number is None:
            return "--"
        text = _digits(number.mean)
        if line.published:
            return rf"\textit{{{text}}}"
        if number.rank:
            text = rf"\textbf{{{text}}}" if number.rank == 1 else rf"\underline{{{text}}}"
        if number.std is not None:
            text += rf"{{\scriptsize$\pm${_digits(number.std)}}}"
        return text + ("$^{*}$" if number.significant else "")

    datasets = list(dict.fromkeys(column.dataset for column in table.columns))
    width = len(table.columns) // len(datasets)
    groups = [rf"\multicolumn{{{width}}}{{c}}{{{latex(name)}}}" for name in datasets]
    rules = "".join(
        rf"\cmidrule(lr){{{2 + i * width}-{1 + (i + 1) * width}}}" for i in range(len(datasets))
    )
    names = [latex(short(column.metric)) for column in table.columns]
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{latex(table.title)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(["", *groups]) + r" \\",
        rules,
        " & ".join(["Model", *names]) + r" \\",
        r"\midrule",
    ]
    for line in table.lines:
        cells = [cell(number, line) for number in line.numbers]
        lines.append(" & ".join([latex(label_text(line)), *cells]) + r" \\")
    if any(gain is not None for gain in table.gains):
        gains = [latex(gain_text(gain)) for gain in table.gains]
        lines += [r"\midrule", " & ".join([r"\textit{Improvement}", *gains]) + r" \\"]
    lines += [r"\bottomrule", r"\end{tabular}"]
    notes = [*table.notes, *([STAR_MEANS] if has_star(table) else [])]
    lines += [rf"\par\footnotesize {latex(note)}" for note in notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def has_star(table: Table) -> bool:
    """Whether a number is marked significant."""
    return any(n is not None and n.significant for line in table.lines for n in line.numbers)
