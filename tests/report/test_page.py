"""The page: it stands by itself, links each number to its records, and escapes every text."""

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

from html_page import parse
from run_records import add

from recbole_llm.record import RunRecord
from recbole_llm.report.contents import Picture, PlainTable, Report
from recbole_llm.report.page import to_html
from recbole_llm.report.records import Run
from recbole_llm.report.significance import Column
from recbole_llm.report.table import Line, Number, Table
from recbole_llm.report.write import write_report


def test_the_page_stands_by_itself_and_links_each_number(spec: Any) -> None:
    for seed in (1, 2):
        add("BPR", seed, [0.2, 0.2])
        add("Ours", seed, [0.3, 0.3], command="run <b>&amp;")
    write_report(spec())
    page = Path("reports/t/index.html").read_text()
    found = parse(page)
    assert set(found.unlinked) == {"no run"}
    inner = [link for link in found.links if link.startswith("#")]
    assert len(inner) == 4 + 2 * 2 and {link[1:] for link in inner} <= found.ids
    files = [link for link in found.links if not link.startswith("#")]
    assert all(Path("reports/t", link).is_file() for link in files)
    assert {"tables.csv", "tables.tex", "report.md", "bars-1.pdf"} <= set(files)
    records = [link for link in files if link.startswith("records/")]
    assert len(records) == 4
    assert not re.search(r"https?://", page)
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=\"(?!data:)", page)
    assert "<b>&amp;amp;" not in page and "run &lt;b&gt;" in page
    shutil.rmtree("runs")
    assert RunRecord.load(Path("reports/t") / records[0]).status == "finished"


def test_the_page_is_read_in_the_dark_and_on_a_narrow_screen(spec: Any) -> None:
    add("BPR", 1, [0.2, 0.2])
    write_report(spec())
    page = Path("reports/t/index.html").read_text()
    assert "prefers-color-scheme: dark" in page and "position: sticky" in page
    assert page.count('class="hint"') == page.count('<div class="scroll"') == 3
    assert "td a { text-decoration: none; }" in page, "an underline means the second best alone"


def test_every_text_is_escaped(spec: Any, work: Path) -> None:
    attack = "<script>alert('x')</script>"
    record = add("BPR", 1, [0.2, 0.2])
    records = [dataclasses.replace(record, id=f"{attack}{seed}", seed=seed) for seed in (1, 2)]
    runs = [Run(record, work / "record.json") for record in records]
    line = Line(attack, [Number(0.2, 0.1, runs)], budget=attack)
    column = Column(attack, "recall@10")
    table = Table(attack, [column], [line], [1.0], [], [attack], attack)
    plain = PlainTable(attack, [attack], [[attack]])
    picture = work / "picture.png"
    picture.write_bytes(b"")
    pictures = [Picture(attack, picture, attack)]
    page = to_html(Report(attack, attack, attack, [table], [plain], pictures, [attack], runs))
    assert page.count("<script>") == 1, "the page's own"
    assert "alert('x')" not in page
    parse(page)
