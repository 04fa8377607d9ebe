"""The front page: leaderboards of models chosen by validation, costs, and links."""

import re
from pathlib import Path
from typing import Any

import pytest
from html_page import parse
from run_records import add

from recbole_llm.record import Stage
from recbole_llm.report.front import write_front
from recbole_llm.report.leaderboard import METRICS, leaderboards
from recbole_llm.report.records import read_runs
from recbole_llm.report.write import write_report


def put(model: str, seed: int, valid: float, test: float, **over: Any) -> None:
    """Write a record whose metrics are all ``valid`` and all ``test``."""
    config = {"model": model, "seed": seed, "mask_history": True, **over.pop("config", {})}
    record = add(model, seed, [0.0, 0.0], model=model, config=config, **over)
    record.metrics = {
        "valid": dict.fromkeys(METRICS, valid),
        "test": dict.fromkeys(METRICS, test),
    }
    record.save()


def test_validation_chooses_the_configuration_and_test_the_order(work: Path) -> None:
    put("BPR", 1, valid=0.5, test=0.2, config={"n_layers": 1})
    put("BPR", 2, valid=0.3, test=0.4, config={"n_layers": 1})
    put("BPR", 1, valid=0.3, test=0.9, config={"n_layers": 2})  # the best on test alone
    stages = [Stage("data", 50.0), Stage("training", 2.0), Stage("graph", 0.1, cached_from_s=30.0)]
    put("LightGCN", 1, valid=0.1, test=0.35, stages=[*stages, Stage("evaluation", 9.0)])
    [board], notes = leaderboards(read_runs([Path("runs")])[0])
    assert (board.dataset, board.protocol) == ("beauty", "loo") and not notes
    first, second = board.entries
    assert [first.model, second.model] == ["LightGCN", "BPR"]
    assert second.means["recall@20"] == (pytest.approx(0.3), pytest.approx(0.02**0.5))
    assert [run.record.seed for run in second.runs] == [1, 2] and second.n_configurations == 2
    assert first.seconds == pytest.approx(32.0)


def test_what_is_judged_otherwise_has_a_board_of_its_own(work: Path) -> None:
    put("BPR", 1, 0.1, 0.1)
    put("BPR", 2, 0.1, 0.1, config={"mask_history": False})
    put("BPR", 3, 0.1, 0.1, protocol="random811")
    put("BPR", 4, 0.1, 0.1, data={"files": {"beauty.inter": "other"}, "split": "s"})
    put("BPR", 5, 0.1, 0.9, leaky=True)
    boards, notes = leaderboards(read_runs([Path("runs")])[0])
    assert len(boards) == 4 and all(len(board.entries) == 1 for board in boards)
    assert notes == ["Left out, because they have leaky user profiles: 1."]


def test_the_page_links_reports_and_records(spec: Any) -> None:
    for seed in (1, 2):
        put("BPR", seed, 0.1, 0.1 * seed)
    put("<b>x", 1, 0.1, 0.1)
    write_report(spec(rows=[{"model": "BPR"}, {"label": "<b>x", "model": "Pop"}], compare=None))
    page = Path("reports/index.html").read_text()
    found = parse(page)
    assert "<b>x" not in page and "A_title &amp; 100 %" in page and "A_title &amp;amp;" not in page
    inner = {link[1:] for link in found.links if link.startswith("#")}
    assert inner <= found.ids and len(inner) == 2
    files = [link for link in found.links if not link.startswith("#")]
    assert {"t/index.html", "t/report.md", "t/tables.csv", "front/cost-1.pdf"} <= set(files)
    assert all(Path("reports", link).is_file() for link in files)
    assert ".1500 ± .0707" in page and len(found.sources) == 1
    assert not re.search(r"https?://", page)


def test_a_folder_without_reports_has_no_page(work: Path) -> None:
    Path("reports").mkdir()
    assert write_front(Path("reports")) is None and not Path("reports/index.html").exists()
