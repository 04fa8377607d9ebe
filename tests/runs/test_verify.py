"""A run's metrics follow from its saved lists and the data, and any tampering shows."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_llm.cli.main import main
from recbole_llm.record import RunRecord
from recbole_llm.runs.metrics import USER_METRICS
from recbole_llm.runs.verify import verify_run

Train = Callable[..., RunRecord]
ALL = ["Recall", "NDCG", "Hit", "MRR", "Precision"]


@pytest.mark.parametrize("protocol", ["random811", "loo"])
@pytest.mark.parametrize("model", ["ItemKNN", "LightGCN"])
def test_a_run_agrees_with_its_lists(model: str, protocol: str, runner: Train) -> None:
    record = runner(model, protocol=protocol, metrics=ALL, save_topk=20)
    report = verify_run(record.folder)
    assert report.agrees, report.text
    assert report.text.count("agrees") == 2 * 2 * len(ALL)  # parts, cut-offs, metrics
    assert "data files: unchanged" in report.text and "data split: unchanged" in report.text
    assert verify_run(Path(record.folder) / "record.json").agrees


def test_a_run_with_longer_lists_another_seed_and_filter_agrees(runner: Train) -> None:
    settings = {"seed": 5, "user_inter_num_interval": "[50,inf)", "mask_history": False}
    record = runner("ItemKNN", save_topk=50, topk=[5], valid_metric="NDCG@5", **settings)
    report = verify_run(record.folder)
    assert report.agrees, report.text


def test_a_sequential_model_of_recbole_agrees(runner: Train) -> None:
    settings = {"train_batch_size": 4096, "MAX_ITEM_LIST_LENGTH": 10}
    record = runner("GRU4Rec", save_topk=20, **settings)
    report = verify_run(record.folder)
    assert report.agrees, report.text


def tamper(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_changed_list_differs(runner: Train, capsys: pytest.CaptureFixture[str]) -> None:
    record = runner("ItemKNN", save_topk=20)
    path = Path(record.folder) / "topk-test.jsonl"
    kept = path.read_text()
    tamper(path, lambda rows: [row["items"].reverse() for row in rows[:10]])
    assert main(["verify", record.folder]) == 1
    out = capsys.readouterr().out
    assert "DIFFERS" in out and out.endswith("NOT verified\n")
    assert "valid" in out and not any("DIFFERS" in x for x in out.splitlines() if "valid " in x)
    path.write_text(kept)
    assert main(["verify", record.folder]) == 0
    assert capsys.readouterr().out.endswith("\nverified\n")


def test_one_changed_line_differs(runner: Train, small_ml100k: Path) -> None:
    record = runner("ItemKNN", protocol="loo", save_topk=20)
    lines = (small_ml100k / "ml-100k" / "ml-100k.inter").read_text().splitlines()[1:]
    mine = [line.split("\t") for line in lines if line.startswith("7\t")]
    times = sorted(float(row[3]) for row in mine)
    last = [row[1] for row in mine if float(row[3]) == times[-1]]

    def turn(rows: list[dict[str, Any]]) -> None:
        (row,) = [row for row in rows if row["user"] == "7"]
        hit = any(item in last for item in row["items"])
        rest = [item for item in row["items"] if item not in last]
        row["items"] = rest if hit else [*last, *rest][:20]

    tamper(Path(record.folder) / "topk-test.jsonl", turn)
    assert not verify_run(record.folder).agrees


def test_a_missing_or_repeated_line_is_an_error(runner: Train) -> None:
    record = runner("ItemKNN", save_topk=20)
    path = Path(record.folder) / "topk-test.jsonl"
    kept = path.read_text()
    tamper(path, lambda rows: rows.pop())
    with pytest.raises(ValueError, match=r"topk-test\.jsonl ranks 119 users, and the data has 120"):
        verify_run(record.folder)
    path.write_text(kept)
    tamper(path, lambda rows: rows.append(rows[0]))
    with pytest.raises(ValueError, match="each must be there once"):
        verify_run(record.folder)


def test_a_changed_metric_differs(runner: Train) -> None:
    record = runner("ItemKNN", save_topk=20)
    record.metrics["test"]["ndcg@10"] += 0.001
    record.save()
    report = verify_run(record.folder)
    assert not report.agrees
    (line,) = [line for line in report.text.splitlines() if "DIFFERS" in line]
    assert line.startswith("test ndcg@10: recorded ")


def test_items_that_repeat_are_not_counted_twice(runner: Train) -> None:
    record = runner("ItemKNN", save_topk=20)

    def repeat(rows: list[dict[str, Any]]) -> None:
        rows[0]["items"][1] = rows[0]["items"][0]

    tamper(Path(record.folder) / "topk-test.jsonl", repeat)
    with pytest.raises(ValueError, match="twice"):
        verify_run(record.folder)


def test_changed_data_is_said(runner: Train, own_ml100k: Path) -> None:
    record = runner("ItemKNN", save_topk=20, data_path=str(own_ml100k))
    assert verify_run(record.folder).agrees
    path = own_ml100k / "ml-100k" / "ml-100k.user"
    path.write_text(path.read_text() + "\n")
    item = own_ml100k / "ml-100k" / "ml-100k.item"
    item.write_text(item.read_text().replace("Toy Story", "Toy Story 2"))
    report = verify_run(record.folder)
    assert not report.agrees
    assert "data files: NOT those of the run" in report.text
    assert "data split: unchanged" in report.text


def test_changed_interactions_are_said(runner: Train, own_ml100k: Path) -> None:
    record = runner("ItemKNN", save_topk=20, data_path=str(own_ml100k))
    path = own_ml100k / "ml-100k" / "ml-100k.inter"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *lines[1:], lines[0]]) + "\n")
    report = verify_run(record.folder)
    assert not report.agrees and "data split: NOT those of the run" in report.text


def test_moved_data_and_moved_run(runner: Train, own_ml100k: Path, work: Path) -> None:
    record = runner("ItemKNN", save_topk=20, data_path=str(own_ml100k))
    shutil.move(own_ml100k, work / "moved")
    shutil.move(record.folder, work / "my run")
    assert main(["verify", "my run", "--data_path=moved"]) == 0


def test_gone_data_and_gone_lists_are_named(
    runner: Train, own_ml100k: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_ml100k / "ml-100k").rename(own_ml100k / "other")
    (own_ml100k / "other" / "ml-100k.inter").rename(own_ml100k / "other" / "other.inter")
    settings = {"data_path": str(own_ml100k), "load_col": {"inter": ["user_id", "item_id"]}}
    record = runner("ItemKNN", "other", save_topk=20, **settings)
    (Path(record.folder) / "topk-valid.jsonl").unlink()
    assert main(["verify", record.folder]) == 2
    assert "topk-valid.jsonl is missing" in capsys.readouterr().err
    shutil.rmtree(own_ml100k / "other")
    assert main(["verify", record.folder]) == 2
    assert "dataset 'other': no folder" in capsys.readouterr().err


def test_a_run_without_lists(runner: Train, capsys: pytest.CaptureFixture[str]) -> None:
    record = runner("Pop")
    assert main(["verify", record.folder]) == 2
    assert "kept no lists to verify. Run it again with --save_topk=" in capsys.readouterr().err


def test_a_malformed_line_is_named(runner: Train, capsys: pytest.CaptureFixture[str]) -> None:
    record = runner("ItemKNN", save_topk=20)
    path = Path(record.folder) / "topk-test.jsonl"
    lines = path.read_text().splitlines()
    for bad in ('{"user": "1", "items": ["2"', '{"items": []}', "7"):
        path.write_text("\n".join([lines[0], bad, *lines[2:]]))
        assert main(["verify", record.folder]) == 2
        assert f"{path}, line 2, is not a user's list" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("metric", "items", "positives", "value"),
    [
        ("recall", "abc", "bx", 1 / 2),
        ("recall", "abc", "abcd", 3 / 4),
        ("precision", "abc", "bx", 1 / 3),
        ("hit", "abc", "bx", 1),
        ("hit", "abc", "x", 0),
        ("mrr", "abc", "bc", 1 / 2),
        ("mrr", "abc", "x", 0),
        ("ndcg", "abc", "a", 1),
        ("ndcg", "abc", "b", 1 / np.log2(3)),
        ("ndcg", "abc", "bx", (1 / np.log2(3)) / (1 + 1 / np.log2(3))),
        ("ndcg", "abc", "abcd", 1),
    ],
)
def test_metrics_by_hand(metric: str, items: str, positives: str, value: float) -> None:
    assert USER_METRICS[metric](list(items), set(positives), 3) == pytest.approx(value)
