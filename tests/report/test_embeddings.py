"""The figure of user representations, and bringing a finished run back for it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from run_records import add

from recbole_llm.data.loading import build_loaders
from recbole_llm.record import RunRecord
from recbole_llm.report.csv_files import to_csv
from recbole_llm.report.embeddings import (
    angle_density,
    plot_embeddings,
    redraw_embeddings,
    user_maps,
)
from recbole_llm.runs.reload import load_run

Train = Callable[..., RunRecord]


def test_angle_density_is_a_density_on_the_circle() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 2)) + [0.8, 0]  # most lie towards angle 0
    angles = np.linspace(-np.pi, np.pi, 2001)
    density = angle_density(points, angles)
    assert np.trapezoid(density, angles) == pytest.approx(1, abs=1e-3)
    assert density[0] == pytest.approx(density[-1])
    assert density[1000] > 2 * density[0]


def test_a_run_comes_back_with_its_scores(runner: Train, work: Path, small_ml100k: Path) -> None:
    record = runner("LightGCN", epochs=2, save_topk=20)
    loaded = load_run(work / record.folder)
    line = json.loads((work / record.folder / "topk-test.jsonl").read_text().splitlines()[0])
    dataset = loaded.split.dataset
    user = dataset.token2id("user_id", line["user"])
    user_emb, item_emb = loaded.model.embeddings()
    scores = item_emb @ user_emb[user]
    items = [dataset.token2id("item_id", token) for token in line["items"]]
    torch.testing.assert_close(scores[items], torch.tensor(line["scores"]), rtol=1e-4, atol=1e-5)


def test_a_run_without_negative_samples_comes_back(runner: Train, work: Path) -> None:
    modalities = {"genre": {"multi_hot": "class"}}
    load_col = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class"]}
    record = runner("BM3", epochs=1, modalities=modalities, load_col=load_col)
    assert load_run(work / record.folder).config["train_neg_sample_args"]["distribution"] == "none"


def test_figure_is_written_and_repeatable(runner: Train, work: Path) -> None:
    runs = [runner(model, epochs=1).folder for model in ("LightGCN", "LightGCN")]
    files = plot_embeddings(runs, work / "figure", n_users=40)
    assert [path.suffix for path in files] == [".pdf", ".png", ".csv"]
    assert all(path.stat().st_size > 500 for path in files)
    first, second = (user_maps(runs[0], "LightGCN", 40, seed=1)[0].points for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (40, 2) and np.linalg.norm(first, axis=1).max() == pytest.approx(1)


def test_a_figure_is_drawn_again_from_its_points(work: Path) -> None:
    records = [add("BPR", seed, [0.2, 0.2]) for seed in (1, 2)]
    folder = work / "figure"
    folder.mkdir()
    rng = np.random.default_rng(1)
    rows = [
        [record.id, f"BPR on beauty, {view}", *rng.normal(size=2).tolist()]
        for record in records
        for view in ("0-hop", "1-hop")
        for _ in range(9)
    ]
    table = folder / "user-embeddings.csv"
    table.write_text(to_csv([["run", "title", "x", "y"], *rows]), encoding="utf-8")
    files = redraw_embeddings(records, folder)
    assert [path.suffix for path in files] == [".pdf", ".png", ".csv"]
    assert all(path.stat().st_size > 500 for path in files)
    png = files[1].read_bytes()
    unquoted = "\n".join(",".join(map(str, row)) for row in [["run", "title", "x", "y"], *rows])
    table.write_text(unquoted, encoding="utf-8")
    assert redraw_embeddings(records, folder)[1].read_bytes() == png, "as older files had it"
    assert redraw_embeddings(records[:1], folder) == [], "points of other runs"
    table.write_text("run,title,x,y\nr,t,no,number\n", encoding="utf-8")
    assert redraw_embeddings(records, folder) == []
    assert redraw_embeddings(records, work) == []


def test_a_staged_run_comes_back_and_shows_each_hop(
    runner: Train, work: Path, tiny_t5: str
) -> None:
    tiny = {"llm_path": tiny_t5, "lora_targets": ["q", "v"], "lora_r": 2, "prompts": "galrec_short"}
    few = {"prefixes_per_user": 1, "MAX_ITEM_LIST_LENGTH": 3, "external_stage.epochs": 1}
    record = runner("GALRec", **tiny, **few, save_topk=5)
    loaded = load_run(record.folder)
    line = json.loads((work / record.folder / "topk-test.jsonl").read_text().splitlines()[0])
    user = loaded.split.dataset.token2id("user_id", line["user"])
    loader = build_loaders(loaded.config, loaded.split).test
    row = loader.row_user.tolist().index(user)
    with torch.no_grad():
        scores = loaded.model.full_sort_predict(loader.collate_fn([row])[0])
    items = [loaded.split.dataset.token2id("item_id", token) for token in line["items"]]
    torch.testing.assert_close(scores[items], torch.tensor(line["scores"]), rtol=1e-4, atol=1e-4)

    maps = user_maps(record.folder, "w/ GAL", 30, seed=1)
    assert [each.title for each in maps] == [f"w/ GAL on ml-100k, {hop}-hop" for hop in (0, 1, 2)]
    assert all(each.points.shape == (30, 2) for each in maps)
    shutil.rmtree(work / "saved" / "cache")
    with pytest.raises(FileNotFoundError, match="stage 'external' .LightGCN. of GALRec"):
        load_run(record.folder)


def test_what_cannot_be_drawn(runner: Train, work: Path) -> None:
    record = runner("EASE")
    with pytest.raises(ValueError, match="EASE does not rank by user embeddings"):
        plot_embeddings([record.folder], work)
    record = runner("LightGCN")
    with pytest.raises(ValueError, match="t-SNE needs at least 5 users, got 3"):
        plot_embeddings([record.folder], work, n_users=3)
    (work / record.files["checkpoint"]).unlink()
    with pytest.raises(FileNotFoundError, match="its checkpoint .* is not there"):
        load_run(record.folder)
    changed = RunRecord.load(record.folder)
    changed.config["n_layers"] = "two"
    changed.save()
    with pytest.raises(ValueError, match="n_layers must be an integer >= 0, got n_layers='two'"):
        load_run(record.folder)
    changed.status = "failed"
    changed.save()
    with pytest.raises(ValueError, match="only a finished run can be loaded"):
        load_run(record.folder)


def test_command_line(runner: Train, cli: Callable, work: Path) -> None:
    record = runner("LightGCN")
    done = cli("plot-embeddings", record.folder, "--n_users=20", program="recbole_llm")
    assert done.returncode == 0, done.stderr
    assert (work / "reports/embeddings/user-embeddings.png").is_file()
    done = cli("plot-embeddings", "runs/none", program="recbole_llm")
    assert done.returncode == 2 and "runs/none" in done.stderr
