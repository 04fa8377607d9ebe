"""The report as one HTML file: no other file or address is needed to read it.

Tables sort by a click on a heading; each number leads to the records that it is the mean of, which
are in the page.
"""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from recbole_llm.report.cells import Run
from recbole_llm.report.render import (
    STAR_MEANS,
    gain_text,
    head,
    label_text,
    seeds_text,
    value_text,
)
from recbole_llm.report.table import Line, Number, Table

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; margin: 2rem auto; max-width: 76rem;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; border-top: 2px solid; border-bottom: 2px solid; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 1px solid; cursor: pointer; user-select: none; }
thead th[data-dir="1"]::after { content: " \\2191"; } thead th[data-dir="-1"]::after {
  content: " \\2193"; }
td a { color: inherit; text-decoration: none; border-bottom: 1px dotted #888; }
td.best { font-weight: bold; } td.second a { border-bottom: 1px solid; }
tr.published { color: #666; font-style: italic; background: #f5f5f5; }
tr.leaky { background: #fff0f0; } td.none { color: #999; }
tfoot td { border-top: 1px solid; }
img { max-width: 100%; } pre { overflow-x: auto; background: #f7f7f7; padding: .6rem; }
details { margin: .3rem 0; } :target { outline: 2px solid #c60; }
"""

_SCRIPT = """
for (const th of document.querySelectorAll("table.sortable thead th")) {
  th.tabIndex = 0;
  const sort = () => {
    const table = th.closest("table"), body = table.tBodies[0], i = th.cellIndex;
    const dir = th.dataset.dir === "-1" ? 1 : th.dataset.dir === "1" ? -1 : (i ? -1 : 1);
    for (const other of table.querySelectorAll("thead th")) delete other.dataset.dir;
    th.dataset.dir = dir;
    const key = row => row.cells[i].dataset.value ?? row.cells[i].textContent;
    const empty = v => v === "";
    [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (empty(x) || empty(y)) return empty(x) - empty(y);
      return dir * (isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y);
    }).forEach(row => body.append(row));
  };
  th.addEventListener("click", sort);
  th.addEventListener("keydown", e => { if (e.key === "Enter") sort(); });
}
const open = () => {
  const it = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (it && it.tagName === "DETAILS") it.open = true;
};
addEventListener("hashchange", open); open();
"""


class Page(NamedTuple):
    """What a page shows."""

    title: str
    source: str
    profile: str
    tables: Sequence[Table]
    plain_tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]
    figures: Sequence[Path]
    notes: Sequence[str]
    runs: Sequence[Run]


def to_html(page: Page) -> str:
    """Return the page."""
    out = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(page.title)}</title>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(page.title)}</h1>",
        f"<p>{html.escape(page.source)} Profile: <b>{html.escape(page.profile)}</b>.</p>",
    ]
    if page.notes:
        items = "".join(f"<li>{html.escape(note)}</li>" for note in page.notes)
        out.append(f'<ul class="notes">{items}</ul>')
    cells: dict[str, tuple[str, list[Run]]] = {}
    for table in page.tables:
        out.append(_table(table, cells))
    for title, heads, rows in page.plain_tables:
        out.append(_plain_table(title, heads, rows))
    for path in page.figures:
        data = base64.b64encode(path.read_bytes()).decode()
        name = html.escape(path.stem.replace("-", " ").capitalize())
        out.append(
            f'<h2>{name}</h2><figure><img alt="{name}" src="data:image/png;base64,{data}"></figure>'
        )
    out.append("<h2>Records</h2>")
    for anchor, (label, runs) in cells.items():
        links = ", ".join(f'<a href="#{_anchor(run)}">{run.record.id}</a>' for run in runs)
        where = html.escape(f"{label} on {runs[0].record.dataset}")
        out.append(f'<p id="{anchor}">{where}: the mean of {links}</p>')
    out += [_record(run) for run in page.runs]
    out.append(f"<script>{_SCRIPT}</script></body></html>")
    return "\n".join(out) + "\n"


def _table(table: Table, cells: dict[str, tuple[str, list[Run]]]) -> str:
    heads = ["model", *map(head, table.columns), "seeds", "trials"]
    out = [f"<h2>{html.escape(table.title)}</h2>" if table.title else ""]
    out.append('<div class="scroll"><table class="sortable"><thead><tr>')
    out += [f"<th>{html.escape(name)}</th>" for name in heads]
    out.append("</tr></thead><tbody>")
    for line in table.lines:
        kind = "published" if line.published else "leaky" if line.leaky else "measured"
        out.append(f'<tr class="{kind}"><td>{html.escape(label_text(line))}</td>')
        out += [_number(number, line, cells) for number in line.numbers]
        out.append(f"<td>{seeds_text(line)}</td><td>{html.escape(line.budget)}</td></tr>")
    out.append("</tbody>")
    if any(gain is not None for gain in table.gains):
        gains = "".join(f"<td>{gain_text(gain)}</td>" for gain in table.gains)
        name = html.escape(f"improvement of {table.compare}")
        out.append(f"<tfoot><tr><td>{name}</td>{gains}<td></td><td></td></tr></tfoot>")
    out.append("</table></div>")
    notes = [
        "Mean ± standard deviation over seeds, on test; best bold, second underlined, among the "
        "rows measured here. Rows in italics are published numbers, not measured here.",
        STAR_MEANS + ".",
        *table.notes,
    ]
    out += [f"<p>{html.escape(note)}</p>" for note in notes]
    return "\n".join(out)


def _number(number: Number | None, line: Line, cells: dict[str, tuple[str, list[Run]]]) -> str:
    text = html.escape(value_text(number, line.published))
    if number is None:
        return f'<td class="none" data-value="">{text}</td>'
    kind = {1: ' class="best"', 2: ' class="second"'}.get(number.rank, "")
    if not number.runs:
        return f'<td{kind} data-value="{number.mean}">{text}</td>'
    anchor = _anchor(number.runs[0])
    if len(number.runs) > 1:
        anchor = "mean-" + "-".join(run.record.id[:19] for run in number.runs)
        cells[anchor] = (label_text(line), number.runs)
    return f'<td{kind} data-value="{number.mean}"><a href="#{anchor}">{text}</a></td>'


def _plain_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<h2>{html.escape(title)}</h2><div class="scroll"><table class="sortable"><thead><tr>{top}'
        f"</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _anchor(run: Run) -> str:
    return f"run-{html.escape(run.record.id)}"


def _record(run: Run) -> str:
    record = run.record
    shared = record.shared()
    content = {
        name: shared[name]
        for name in (
            "id model dataset protocol seed status started finished command metrics best_epoch "
            "origin data environment config_hash config"
        ).split()
    }
    text = html.escape(json.dumps(content, indent=1, ensure_ascii=False))
    mark = " LEAKY" if run.leaky else ""
    return (
        f'<details id="{_anchor(run)}"><summary>{html.escape(record.id)}{mark} '
        f'(<a href="records/{html.escape(record.id)}.json">file</a>)</summary>'
        f"<pre>{text}</pre></details>"
    )
