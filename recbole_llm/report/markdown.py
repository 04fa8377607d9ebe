"""A report as Markdown."""

from collections.abc import Sequence

from recbole_llm.report.contents import Picture, Report
from recbole_llm.report.markdown_text import inline, sentence
from recbole_llm.report.table import Line, Number, Table
from recbole_llm.report.text import (
    gain_text,
    head_text,
    label_text,
    legend,
    seeds_text,
    value_text,
)


def to_markdown(report: Report) -> str:
    """Return the whole report: notes, tables, and links to its figures and files."""
    out = [f"# {inline(report.title)}"]
    out.append(sentence(f"{report.source} Profile: {report.profile}.".strip()))
    out += [f"- {sentence(note)}" for note in report.notes]
    pictures = [*report.bars, *[None] * len(report.tables)]
    for table, picture in zip(report.tables, pictures, strict=False):
        out.append(f"\n## {inline(table.title)}\n" if table.title != report.title else "")
        out += [table_to_markdown(table), f"\n{sentence(legend(table))}"]
        out += [f"\n{sentence(note)}" for note in table.notes]
        out += _picture(picture) if picture else []
    for picture in report.pictures:
        out += _picture(picture)
    for plain in report.plain_tables:
        rows = [list(map(inline, row)) for row in (plain.heads, *plain.rows)]
        out += [f"\n## {inline(plain.title)}\n", _rows(rows)]
        out += [f"\n{sentence(plain.note)}"] if plain.note else []
    if report.facts:
        out.append("\n## Set-up\n")
        out += [f"- **{inline(name)}**: {sentence(text)}" for name, text in report.facts]
    if report.files:
        links = ", ".join(f"[{inline(name)}]({name})" for name in report.files)
        out.append(f"\nFiles: {links}")
    return "\n".join(out) + "\n"


def _picture(picture: Picture) -> list[str]:
    pdf = picture.link.removesuffix(".png") + ".pdf"
    caption = f" {sentence(picture.caption)}" if picture.caption else ""
    return [f"\n![{inline(picture.name)}]({picture.link})", f"\n[PDF]({pdf}){caption}"]


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
