"""A report as Markdown."""

from recbole_llm.report.contents import Report
from recbole_llm.report.table import Line, Number, Table
from recbole_llm.report.text import (
    STAR_MEANS,
    gain_text,
    head_text,
    label_text,
    seeds_text,
    value_text,
)

_TABLE_NOTE = (
    "\nMean ± standard deviation over seeds, on test; best bold, second underlined among "
    "the rows measured here. Rows in italics are published numbers, not measured here."
)


def to_markdown(report: Report) -> str:
    """Return the whole report: notes, tables, and links to its figures."""
    out = [f"# {report.title}", f"{report.source} Profile: {report.profile}.".strip()]
    out += [f"- {note}" for note in report.notes]
    for table in report.tables:
        out.append(f"\n## {table.title}\n" if table.title != report.title else "")
        out += [table_to_markdown(table), _TABLE_NOTE]
        out += [f"\n{note}" for note in [*table.notes, *([STAR_MEANS] if table.has_star else [])]]
    for plain in report.plain_tables:
        rows = [plain.heads, ["---"] * len(plain.heads), *plain.rows]
        out += [f"\n## {plain.title}\n", *(f"| {' | '.join(row)} |" for row in rows)]
    out += [f"\n![{picture.name}]({picture.link})" for picture in report.pictures]
    return "\n".join(out) + "\n"


def table_to_markdown(table: Table) -> str:
    """Return a Markdown table: best bold, second underlined, published numbers in italics."""
    heads = ["model", *map(head_text, table.columns), "seeds", "trials"]
    rows = [heads, ["---"] * len(heads)]
    for line in table.lines:
        name = f"*{label_text(line)}*" if line.published else label_text(line)
        cells = [_cell(number, line) for number in line.numbers]
        rows.append([name.replace("|", "\\|"), *cells, seeds_text(line), line.budget])
    if any(gain is not None for gain in table.gains):
        rows.append([f"improvement of {table.compare}", *map(gain_text, table.gains), "", ""])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(number: Number | None, line: Line) -> str:
    text = value_text(number, line.published).replace("*", "\\*")
    if line.published:
        return f"*{text}*" if text else ""
    if number is not None and number.rank:
        return f"**{text}**" if number.rank == 1 else f"<u>{text}</u>"
    return text
