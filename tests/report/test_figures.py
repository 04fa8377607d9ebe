"""Figures of a spec: files, notes, titles, and logarithmic axes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_page import parse
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from run_records import METRICS, add

from recbole_llm.plotting import line_style, shade
from recbole_llm.report.write import write_report

GRID = {
    "grid": [{"n_layers": [1, 2]}, {"reg_weight": [0.1, 0.2], "knn_k": [1, 2, 3]}],
    "figures": [
        {"kind": "line", "x": "n_layers", "symbol": "L", "metrics": METRICS},
        {
            "kind": "heatmap",
            "x": "reg_weight",
            "y": "knn_k",
            "x_symbol": "λ",
            "y_symbol": "K",
            "metrics": ["recall@20"],
        },
    ],
}


def test_figures_are_drawn_and_embedded(spec: Any) -> None:
    for seed in (1, 2):
        for n_layers in (1, 2):
            add("BPR", seed, [0.2, 0.1 * n_layers], point={"n_layers": n_layers})
        for weight in (0.1, 0.2):
            for k in (1, 2):  # 3 is missing
                add("BPR", seed, [0.2, weight / k], point={"reg_weight": weight, "knn_k": k})
    path = spec(rows=[{"model": "BPR"}], compare=None, **GRID)
    files = write_report(path).files
    names = {it.name for it in files}
    assert {"figure-1.pdf", "figure-1.png", "figure-2.pdf", "figure-2.png"} <= names
    assert Path("reports/t/figure-2.png").stat().st_size > 5000
    sources = parse(Path("reports/t/index.html").read_text()).sources
    assert len(sources) == 2 and all(it.startswith("data:image/png;base64,") for it in sources)
    text = Path("reports/t/report.md").read_text()
    assert "figure-1: drawn on the validation split" in text
    assert "figure-2: 2 of 6 points have no run" in text
    points = Path("reports/t/points.csv").read_text().splitlines()
    assert "beauty,BPR,2,,,valid,recall@20,0.2,0.0,2" in points


def test_figures_without_runs(spec: Any) -> None:
    write_report(spec(rows=[{"model": "BPR"}], compare=None, **GRID))
    assert not list(Path("reports/t").glob("*.png"))
    assert "figure-1: no run." in Path("reports/t/report.md").read_text()


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures of a report, in place of their files."""
    figures: list[Figure] = []

    def keep(figure: Figure, stem: Path) -> list[Path]:
        figures.append(figure)
        return []

    monkeypatch.setattr("recbole_llm.report.figures.save_figure", keep)
    return figures


def line_spec(spec: Any, values: list[Any], **over: Any) -> Path:
    figure = {"kind": "line", "x": "reg_weight", "metrics": METRICS, **over}
    over = {"rows": [{"model": "BPR"}], "compare": None, "grid": {"reg_weight": values}}
    return spec(figures=[figure], **over)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.001, 0.1, 1.0], "log"),
        ([16, 32, 64, 128], "log"),
        ([1, 5, 10, 15], "linear"),
        ([-1.0, 0.0, 2.0], "linear"),
        ([0.0, 0.001, 0.01, 0.1], "symlog"),
    ],
)
def test_numbers_stand_at_their_place(
    values: list[float], scale: str, spec: Any, drawing: list[Figure]
) -> None:
    for value in values:
        add("BPR", 1, [0.2, 0.2], point={"reg_weight": value})
    write_report(line_spec(spec, values, title="A title"))
    [figure] = drawing
    assert figure.get_suptitle() == "A title"
    assert figure.get_figwidth() == pytest.approx(3.35), "as wide as a column"
    axis = figure.axes[-1]
    assert axis.get_xscale() == scale
    assert axis.lines[0].get_xdata().tolist() == values
    assert [text.get_text() for text in axis.get_xticklabels()] == [str(it) for it in values]


def test_a_logarithmic_axis_may_be_asked_for(spec: Any, drawing: list[Figure]) -> None:
    for value in (1.0, 2.0, 3.0):
        add("BPR", 1, [0.2, 0.2], point={"reg_weight": value})
    write_report(line_spec(spec, [1.0, 2.0, 3.0], log=True))
    write_report(line_spec(spec, [1.0, 2.0, 3.0]))
    assert [figure.axes[-1].get_xscale() for figure in drawing] == ["log", "linear"]


def test_the_band_is_explained_where_there_is_one(spec: Any, drawing: list[Figure]) -> None:
    add("BPR", 1, [0.2, 0.2], point={"reg_weight": 0.1})
    write_report(line_spec(spec, [0.1]))
    add("BPR", 2, [0.3, 0.3], point={"reg_weight": 0.1})
    write_report(line_spec(spec, [0.1]))
    one, two = (figure.axes[0].get_legend() for figure in drawing)
    assert one is None
    assert [text.get_text() for text in two.get_texts()] == ["± standard deviation"]


def test_colours_are_those_that_read_in_grey() -> None:
    colours = [to_rgb(line_style(i).colour) for i in range(8)]
    lightness = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in colours]
    assert len({round(value, 2) for value in lightness}) == 8
    assert max(lightness) < 0.8, "seen on white"
    along = [to_rgb(shade(i / 9)) for i in range(10)]
    steps = np.diff([0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in along])
    assert (steps > 0).all(), "lighter with the value"


def test_zero_has_no_place_on_a_logarithmic_axis(spec: Any) -> None:
    add("BPR", 1, [0.2, 0.2], point={"reg_weight": 0.1})
    with pytest.raises(ValueError, match="needs positive numbers, and reg_weight has 0.0"):
        write_report(line_spec(spec, [0.0, 0.1], log=True))


def test_titles_of_figures_and_tables_are_headings(spec: Any) -> None:
    add("BPR", 1, [0.2, 0.2])
    figures = [{"kind": "bars", "metrics": ["recall@20"], "part": "test", "title": "Bars of it"}]
    tables = [{"kind": "metrics", "title": "Numbers"}, {"kind": "cost", "title": "Seconds"}]
    write_report(spec(figures=figures, tables=tables))
    page = Path("reports/t/index.html").read_text()
    text = Path("reports/t/report.md").read_text()
    for title in ("Numbers", "Seconds", "Bars of it"):
        assert f"<h2>{title}</h2>" in page
    assert "## Numbers" in text and "## Seconds" in text
    assert "![Bars of it](figure-1.png)" in text
