"""What a paper needs around a table: set-up, data, chosen settings, curves, LaTeX that fits."""

import csv
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_records import add

from recbole_llm.report.cells import collect
from recbole_llm.report.curves import curves
from recbole_llm.report.latex import to_latex
from recbole_llm.report.records import read_runs
from recbole_llm.report.significance import Column
from recbole_llm.report.table import Line, Number, Table
from recbole_llm.report.text import digits, gain_text, legend
from recbole_llm.report.write import write_report
from recbole_llm.sweep.spec import load_spec

SEARCH = {
    "rows": [
        {"model": "BPR", "space": {"learning_rate": {"float": [0.001, 0.1], "log": True}}},
        {"model": "Pop"},
    ],
    "search": {"sampler": "random", "seed": 7, "n_trials": 4, "pruner": "median"},
    "compare": None,
}


def lines(name: str) -> list[dict[str, str]]:
    with open(f"reports/t/{name}", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_search_space_budget_and_chosen_settings(spec: Any) -> None:
    config = {"learning_rate": 0.02, "mask_history": True, "valid_metric": "NDCG@10"}
    add("BPR", 1, [0.2, 0.2], config=config)
    add("Pop", 1, [0.1, 0.1], config=config)
    write_report(spec(**SEARCH))
    assert [list(line.values()) for line in lines("search.csv")] == [
        ["BPR", "learning_rate", "0.001 to 0.1, logarithmic", "4"],
        ["Pop", "none", "", "none"],
    ]
    chosen = [list(line.values()) for line in lines("chosen.csv")]
    assert chosen == [["beauty", "BPR", "learning_rate = 0.02"]]
    facts = {line["what"]: line["how"] for line in lines("setup.csv")}
    assert facts["Search"] == "random, seed 7, 4 trials a row and dataset, pruner median"
    assert facts["Selection"] == "epoch and configuration by N@10 on validation"
    assert facts["Hidden from the rankings"] == "the items that a user is known to have"
    assert facts["Protocol"].startswith("loo (leave one out")
    assert facts["Runs"] == "2, started 2026-01-01" and facts["Commit"] == "c"
    page, text = (Path("reports/t", name).read_text() for name in ("index.html", "report.md"))
    for what in ("Search space", "Chosen settings", "Set-up", "Data"):
        assert f"<h2>{what}</h2>" in page and f"## {what}" in text
    for name in ("search", "chosen", "setup", "data"):
        latex = Path(f"reports/t/{name}.tex").read_text()
        assert rf"\label{{tab:t-{name}}}" in latex and "booktabs" in latex


def test_data_sizes_and_unreachable_rows(spec: Any) -> None:
    sizes = {"n_users": 4, "n_items": 10, "n_interactions": [14, 3, 3]}
    data = {"files": {"a": "1"}, "split": "s", **sizes}
    add("BPR", 1, [0.2, 0.2], data=data)
    cold = {"valid": {}, "test": {"cold_items": {"n_interactions": 2, "recall@10": 0.0}}}
    add("LightGCN", 1, [0.2, 0.2], data=data, metrics_cold=cold)
    write_report(spec())
    [line] = lines("data.csv")
    expected = ["beauty", "4", "10", "20", "50.000%", "14", "3", "3", "0", "2 by items"]
    assert list(line.values()) == expected


def test_unreachable_rows_of_another_split_are_not_shown(spec: Any) -> None:
    sizes = {"n_users": 4, "n_items": 10, "n_interactions": [14, 3, 3]}
    add("BPR", 1, [0.2, 0.2], data={"files": {"a": "1"}, "split": "s", **sizes})
    other = {"files": {"a": "1"}, "split": "z", **sizes}
    add("BPR", 2, [0.2, 0.2], data=other, metrics_cold={"test": {}})
    write_report(spec())
    assert [line["test unreachable"] for line in lines("data.csv")] == ["not recorded"]


def test_costs_have_files_of_their_own(spec: Any) -> None:
    from recbole_llm.record import Stage

    add("BPR", 1, [0.2, 0.2], stages=[Stage("training", 2.5, 3 * 2**20, 10, 40)])
    write_report(spec(tables=[{"kind": "cost"}]))
    assert lines("cost.csv")[1]["seconds"] == "2.5"
    latex = Path("reports/t/cost.tex").read_text()
    assert r"beauty & BPR & training & 2.5 & 3 & 10 & 25.00\% & cpu \\" in latex
    assert r"\label{tab:t-cost}" in latex
    assert not Path("reports/t/tables.tex").exists()


def _epochs(values: list[float | None]) -> list[dict[str, Any]]:
    return [
        {"epoch": i, "loss": 1.0, **({} if value is None else {"valid": {"recall@20": value}})}
        for i, value in enumerate(values)
    ]


def test_curves_are_means_of_the_epochs_that_all_seeds_have(spec: Any) -> None:
    add("BPR", 1, [0.2, 0.2], epochs=_epochs([0.1, None, 0.3, 0.5]))
    add("BPR", 2, [0.2, 0.2], epochs=_epochs([0.3, None, 0.5]))
    add("LightGCN", 1, [0.2, 0.2])
    experiment = load_spec(spec())
    cells = collect(experiment, read_runs([Path("runs")])[0])
    [curve] = curves(experiment, cells, "beauty", "recall@20")
    assert (curve.label, curve.epochs) == ("BPR", [1, 3])
    np.testing.assert_allclose(curve.mean, [0.2, 0.4])
    np.testing.assert_allclose(curve.std, [0.02**0.5] * 2)  # of .1 and .3, n - 1
    names = {path.name for path in write_report(spec()).files}
    assert {"learning-curves.pdf", "learning-curves.png", "bars-1.pdf", "bars-1.png"} <= names
    text = Path("reports/t/report.md").read_text()
    assert "the band is one standard deviation over seeds" in text
    assert "![Learning curves](learning-curves.png)" in text


def _table(numbers: list[list[Number | None]], published: bool = False) -> Table:
    columns = [Column("d", f"recall@{i}") for i, _ in enumerate(numbers[0])]
    rows = [Line(f"r{i}", list(row), published=published) for i, row in enumerate(numbers)]
    return Table("t", columns, rows, [None] * len(columns), [], [], None)


def test_the_legend_speaks_of_what_is_there() -> None:
    assert legend(_table([[Number(0.1)], [Number(0.2)]])) == "Values of one seed, on test."
    assert "standard deviation" in legend(_table([[Number(0.1, 0.01)]]))
    marked = _table([[Number(0.1, rank=2)], [Number(0.2, rank=1, significant=True)]])
    assert "best bold, second underlined" in legend(marked) and "Wilcoxon" in legend(marked)
    assert "second" not in legend(_table([[Number(0.2, rank=1)]]))
    assert legend(_table([[Number(0.1)]], published=True)).startswith("Rows in italics")


def test_minus_signs() -> None:
    assert [digits(value) for value in (-0.25, -2, 0.5)] == ["\u2212.2500", "\u22122.0000", ".5000"]
    assert gain_text(-3.21) == "\u22123.2 %" and gain_text(3.21) == "+3.2 %"
    table = _table([[Number(-0.25)]])
    assert r"r0 & $-$.2500 \\" in to_latex(table, "x")


def _wide(n_datasets: int, n_metrics: int, label: str) -> Table:
    names = [f"recall@{5 * i + 5}" for i in range(n_metrics)]
    columns = [Column(f"dataset-{j}", name) for j in range(n_datasets) for name in names]
    numbers: list[Number | None] = [Number(0.1234, 0.0123, rank=1) for _ in columns]
    rows = [Line(f"{label} {i}", list(numbers)) for i in range(3)]
    return Table("A table", columns, rows, [-1.5] * len(columns), [], ["A note."], "x")


WIDTHS = [(1, 2, "BPR"), (1, 4, "BPR"), (3, 4, "MLLMRec w/ GCN"), (5, 4, "LightGCN"), (2, 8, "A")]


def test_a_narrow_table_has_one_column_and_a_wide_one_the_page() -> None:
    texts = [to_latex(_wide(*shape), "x") for shape in WIDTHS]
    environments = [re.findall(r"\\begin\{(table\*?)\}", text) for text in texts]
    assert environments == [["table"], ["table*"], ["table*"], ["table*"], ["table*"]]
    assert [text.count(r"\begin{tabular}") for text in texts] == [1, 1, 2, 3, 2]
    for text, (n_datasets, n_metrics, _) in zip(texts, WIDTHS, strict=True):
        assert text.count(r"\textbf{.1234}") == 3 * n_datasets * n_metrics


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.parametrize("shape", WIDTHS)
def test_a_table_fits_its_place_in_a_page_of_two_columns(
    shape: tuple[int, int, str], tmp_path: Path
) -> None:
    from test_output_escaping import RULES, _has_booktabs

    rules = r"\usepackage{booktabs}" if _has_booktabs() else RULES
    page = (
        r"\textwidth=500pt\columnsep=20pt\columnwidth=240pt\hsize=\columnwidth"
        r"\linewidth=\columnwidth\hoffset=-1in\oddsidemargin=0pt"
    )
    document = rf"\documentclass[twocolumn]{{article}}{rules}{page}\begin{{document}}"
    text = f"{document}\nText.\n{to_latex(_wide(*shape), 'x')}\nText.\\end{{document}}\n"
    (tmp_path / "t.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=120)
    log = (tmp_path / "t.log").read_text(encoding="latin-1")
    assert done.returncode == 0, log[-2000:]
    assert "Overfull" not in log
