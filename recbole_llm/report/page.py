"""The report as one HTML file: no other file or address is needed to read it.

Tables sort by a click on a heading. Each number leads to the records that it is the mean of, which
are part of the page. The template, its style and its script are in ``templates/``.
"""

import base64
import json
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from recbole_llm.report.contents import Report
from recbole_llm.report.records import Run
from recbole_llm.report.statistics import smaller_is_better
from recbole_llm.report.table import Line, Number
from recbole_llm.report.text import (
    gain_text,
    head_text,
    label_text,
    legend,
    seeds_text,
    value_text,
)

_RECORD_KEYS = (
    "id model dataset protocol seed status started finished command metrics best_epoch "
    "origin data environment config_hash config"
).split()


class _Mean(NamedTuple):
    label: str
    runs: list[Run]


def to_html(report: Report) -> str:
    """Return the page; every text of the report is escaped."""
    template = environment().get_template("page.html.j2")
    bars = [*report.bars, *[None] * (len(report.tables) - len(report.bars))]
    tables = list(zip(report.tables, bars, strict=True))
    return template.render(report=report, tables=tables, means=_means(report))


def environment() -> Environment:
    """Return jinja2's environment of the pages: every text is escaped."""
    found = Environment(
        loader=PackageLoader("recbole_llm.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for text in (gain_text, head_text, label_text, legend, seeds_text, value_text):
        found.filters[text.__name__] = text
    found.filters["smaller_is_better"] = smaller_is_better
    found.filters["anchor"] = _anchor
    found.filters["base64"] = _base64
    found.filters["line_class"] = _line_class
    found.filters["record_text"] = _record_text
    found.filters["pdf"] = _pdf
    return found


def _means(report: Report) -> dict[str, _Mean]:
    """Return the means over two or more runs, by the name of their place in the page."""
    return {
        _anchor(number): _Mean(f"{label_text(line)} on {column.dataset}", number.runs)
        for table in report.tables
        for line in table.lines
        for column, number in zip(table.columns, line.numbers, strict=True)
        if number is not None and len(number.runs) > 1
    }


def _anchor(number: Number) -> str:
    """Return the place that a measured number leads to: its only record, or its mean."""
    ids = [run.record.id for run in number.runs]
    return f"run-{ids[0]}" if len(ids) == 1 else "mean-" + "-".join(id_[:19] for id_ in ids)


def _line_class(line: Line) -> str:
    return "published" if line.published else "leaky" if line.leaky else "measured"


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _pdf(link: str) -> str:
    return f"{link.removesuffix('.png')}.pdf"


def _record_text(run: Run) -> str:
    content = run.record.shared()
    return json.dumps({key: content[key] for key in _RECORD_KEYS}, indent=1, ensure_ascii=False)
