"""A report as Markdown."""

from collections.abc import Sequence

from recbole_llm.report.contents import Report
from recbole_llm.report.markdown_text import inline, sentence
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
    out = [f"# {inline(report.title)}"]
    out.append(sentence(f"{report.source} Profile: {report.profile}.".strip()))
    out += [f"- {sentence(note)}" for note in report.notes]
    for table in report.tables:
        out.append(f"\n## {inline(table.title)}\n" if table.title != report.title else "")
        out += [table_to_markdown(table), _TABLE_NOTE]
        out += [f"\n{sentence(note)}" for note in table.notes]
        out += [f"\n{STAR_MEANS}"] if table.has_star else []
    for plain in report.plain_tables:
        rows = [list(map(inline, row)) for row in (plain.heads, *plain.rows)]
        out += [f"\n## {inline(plain.title)}\n", _rows(rows)]
    out += [f"\n![{inline(picture.name)}]({picture.link})" for picture in report.pictures]
    return "\n".join(out) + "\n"


def table_to_markdown(table: Table) -> str:
    """Return a Markdown table: best bold, second underlined, published numbers in italics."""
    rows = [["model", *(inline(head_text(column)) for column in table.columns), "seeds", "trials"]]
    for line in table.lines:
        label = inline(label_text(line))
        cells = [_cell(number, line) for number in line.numbers]
        name = f"*{label}*" if line.published else label
        rows.append([name, *cells, seeds_text(line), inline(line.budget)])
    if any(gain is not None for gain in table.gains):
        label = inline(f"improvement of {table.compare}")
        rows.append([label, *map(gain_text, table.gains), "", ""])
    return _rows(rows)


def _rows(rows: Sequence[Sequence[str]]) -> str:
    heads, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *body))


def _cell(number: Number | None, line: Line) -> str:
    text = value_text(number, line.published).replace("*", "\\*")
    if line.published:
        return f"*{text}*" if text else ""
    if number is not None and number.rank:
        return f"**{text}**" if number.rank == 1 else f"<u>{text}</u>"
    return text
