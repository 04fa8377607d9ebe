"""Every kind of figure has the same bytes when it is drawn again, whatever the user's style."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import optuna
import pytest

from recbole_llm.inspection.figures import draw_figure as draw_dataset
from recbole_llm.plotting import figure_style, panels, save_figure
from recbole_llm.record import RunRecord
from recbole_llm.report.cells import Cell, Cells
from recbole_llm.report.embeddings import UserMap, draw_maps
from recbole_llm.report.figures import FigureSpec, draw_figure
from recbole_llm.report.records import Run
from recbole_llm.sweep.plots import plot_study
from recbole_llm.sweep.spec import Row

ROWS = [Row(label, label, {}, ()) for label in ("BPR", "LightGCN")]
GRID = [{"a": 1}, {"a": 2}, {"a": 1, "b": 3}, {"a": 2, "b": 3}, {}]


def report_figure(kind: str, **keys: Any) -> Callable[[Path], object]:
    by_key = {}
    for i, row in enumerate(ROWS):
        for j, point in enumerate(GRID):
            runs = []
            for seed in (1, 2):
                record = RunRecord("r", "BPR", "toys", "loo", seed, {}, "", "")
                record.metrics = {"valid": {"recall@20": 0.1 + 0.02 * i + 0.01 * j * seed}}
                runs.append(Run(record, Path("record.json")))
            text = json.dumps(point, sort_keys=True) if point else ""
            by_key["toys", row.label, text] = Cell(runs)

    spec: Any = SimpleNamespace(datasets=["toys"], rows=ROWS, grid=GRID)
    entry = FigureSpec(kind=kind, part="valid", title="Title", **keys)
    return lambda stem: draw_figure(spec, Cells(by_key, []), entry, stem)


def maps(stem: Path) -> object:
    record = RunRecord("r", "BPR", "toys", "loo", 1, {}, "", "")
    points = np.random.default_rng(0).normal(size=(30, 2))
    return draw_maps([UserMap(record, "BPR on toys", points)], stem, "Title")


def dataset(stem: Path) -> object:
    rng = np.random.default_rng(0)
    user, item = rng.integers(1, 9, 60), rng.integers(1, 9, 60)
    view: Any = SimpleNamespace(user=user, item=item, time=1.5e9 + 1e5 * rng.random(60))
    return draw_dataset(view, stem)


def study(stem: Path) -> object:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(lambda t: t.suggest_float("x", 0, 1) + t.suggest_float("y", 0, 9), n_trials=12)
    return plot_study(study, stem)


KINDS: dict[str, tuple[Callable[[Path], object], int]] = {
    "line": (report_figure("line", x="a", log=True), 2),
    "heatmap": (report_figure("heatmap", x="a", y="b"), 2),
    "bars": (report_figure("bars"), 2),
    "embeddings": (maps, 2),
    "dataset": (dataset, 2),
    "study": (study, 4),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_drawing_has_the_same_bytes(kind: str, tmp_path: Path) -> None:
    draw, n_files = KINDS[kind]
    contents = []
    for folder in ("first", "second"):
        with mpl.rc_context({"font.size": 20.0 if folder == "first" else 5.0}):
            draw(tmp_path / folder / "figure")
        paths = sorted((tmp_path / folder).iterdir())
        assert [path.suffix for path in paths] == [".pdf", ".png"] * (n_files // 2)
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    assert all(b"CreationDate" not in content for content in contents[0])


def test_a_dot_in_a_name_is_kept_and_the_style_of_the_user_too(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    with figure_style():
        figure, axes = panels(1, 2)
        assert axes.shape == (1, 2)
        paths = save_figure(figure, tmp_path / "new" / "a.b")
    assert [path.name for path in paths] == ["a.b.pdf", "a.b.png"]
    assert dict(mpl.rcParams) == before
