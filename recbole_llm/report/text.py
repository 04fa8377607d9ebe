"""How numbers, labels and headings are written, in every format of a report."""

import unicodedata

from recbole_llm.metrics.register import short_name
from recbole_llm.report.significance import Column
from recbole_llm.report.statistics import smaller_is_better
from recbole_llm.report.table import Line, Number, Table

NO_RUN = "no run"
MINUS = "\N{MINUS SIGN}"
STAR_MEANS = (
    "* above the strongest other row, Wilcoxon and paired t test on users, two-sided, "
    "Holm-corrected over the table, both p < 0.05"
)


def one_line(text: str) -> str:
    """Return text with every run of white space as one space, without control characters."""
    visible = [" " if char.isspace() else char for char in text]
    return " ".join("".join(c for c in visible if unicodedata.category(c) != "Cc").split())


def short_metric(metric: str) -> str:
    """Return ``R@10`` for ``recall@10``, with an arrow down where a smaller value is better."""
    return f"{short_name(metric)}{' ↓' if smaller_is_better(metric) else ''}"


def head_text(column: Column) -> str:
    """Return the heading of a column, such as ``beauty R@10``."""
    return f"{column.dataset} {short_metric(column.metric)}"


def digits(value: float) -> str:
    """Return a number with four decimals, a minus sign, and without the zero before the point."""
    text = f"{abs(value):.4f}".removeprefix("0") if abs(value) < 1 else f"{abs(value):.4f}"
    return f"{MINUS if value < 0 else ''}{text}"


def value_text(number: Number | None, published: bool = False) -> str:
    """Return ``.0412 ± .0003*``; for a missing number ``no run``, or nothing in a published row."""
    if number is None:
        return "" if published else NO_RUN
    spread = f" ± {digits(number.std)}" if number.std is not None else ""
    return f"{digits(number.mean)}{spread}{'*' if number.significant else ''}"


def label_text(line: Line) -> str:
    """Return the name of a row, and whether it is published, leaky, or has image words."""
    marks = (
        (" (published)", line.published),
        (" (image words)", line.has_image_words),
        (" LEAKY", line.leaky),
    )
    return line.label + "".join(mark for mark, is_set in marks if is_set)


def gain_text(gain: float | None) -> str:
    """Return a gain in percent with its sign, such as ``+1.2 %``, or nothing for None."""
    return "" if gain is None else f"{gain:+.1f} %".replace("-", MINUS)


def legend(table: Table) -> str:
    """Return sentences on the marks of a table, and on no mark that the table does not have."""
    numbers = [
        (line, number) for line in table.lines for number in line.numbers if number is not None
    ]
    measured = [number for line, number in numbers if not line.published]
    ranks = {number.rank for number in measured}
    parts = []
    if measured:
        has_spread = any(number.std is not None for number in measured)
        spread = "Mean ± standard deviation over seeds" if has_spread else "Values of one seed"
        parts.append(f"{spread}, on test")
    if 1 in ranks:
        second = ", second underlined" if 2 in ranks else ""
        parts.append(f"best bold{second} among the rows measured here")
    sentences = [f"{'; '.join(parts)}." if parts else ""]
    if any(line.published for line, _ in numbers):
        sentences.append("Rows in italics are published numbers, not measured here.")
    if table.has_star:
        sentences.append(f"{STAR_MEANS}.")
    return " ".join(filter(None, sentences))


def seeds_text(line: Line) -> str:
    """Return the number of seeds of a measured row, or a range if its columns differ."""
    counts = sorted({len(number.runs) for number in line.numbers if number is not None})
    return "" if line.published else "-".join(map(str, counts)) or "0"
