"""Kind 9: an edited record or list that an earlier ``verify`` called "verified"."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_llm.cli.main import main
from recbole_llm.record import RunRecord, run_name
from recbole_llm.runs.rankings import publish_rankings, read_rankings
from recbole_llm.runs.rounding import Rounding
from recbole_llm.runs.verify import verify_run
from recbole_llm.settings.fingerprint import fingerprint_of

Train = Callable[..., RunRecord]
Content = dict[str, Any]

METRICS = ["Recall", "NDCG", "MAP", "ItemCoverage", "GiniIndex", "ShannonEntropy"]
METRICS += ["AveragePopularity", "TailPercentage"]


@pytest.fixture
def folder(runner: Train) -> Path:
    """The folder of a finished run with its lists."""
    return Path(runner("ItemKNN", save_topk=20).folder)


def edit(folder: Path, change: Callable[[Content], object]) -> None:
    path = folder / "record.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_lists(folder: Path, change: Callable[[list[Content]], object], part: str = "test") -> None:
    path = folder / f"topk-{part}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sign(content: Content) -> None:
    """Give an edited record the hash and the id of its settings."""
    content["config_hash"] = fingerprint_of(content["config"])
    ending = run_name(content["model"], content["dataset"], content["config_hash"])
    content["id"] = content["id"][:19] + ending


def rounded(content: Content, digits: int) -> None:
    content["config"]["metric_decimal_place"] = digits
    for metrics in content["metrics"].values():
        for name in metrics:
            metrics[name] = 1.0 if digits < 0 else 0.49


def add_to(metrics: dict[str, float], name: str, number: float) -> None:
    metrics[name] += number


#: Edits that the record itself, or the data, give away.
EDITS: dict[str, tuple[Callable[[Content], object], str]] = {
    "no decimals": (lambda c: rounded(c, 0), "test recall@20: recorded 0.490000"),
    "negative decimals": (lambda c: rounded(c, -3), "test recall@20: recorded 1.000000"),
    "the sixth digit": (
        lambda c: c["metrics"]["test"].update(
            {"recall@10": c["metrics"]["test"]["recall@10"] + 2e-6}
        ),
        "test recall@10: recorded",
    ),
    "no test part": (lambda c: c["metrics"].pop("test"), "test: the record has no metrics"),
    "an invented part": (
        lambda c: c["metrics"].update(best={"recall@10": 0.9}),
        "best: the split has no such part",
    ),
    "a metric less": (
        lambda c: c["metrics"]["test"].pop("ndcg@20"),
        "test ndcg@20: the settings ask for it",
    ),
    "an invented metric": (
        lambda c: c["metrics"]["test"].update({"map@20": 0.9}),
        "test map@20: the settings do not ask for it",
    ),
    "model": (lambda c: c.update(model="LightGCN"), "model: recorded LightGCN"),
    "model in the settings": (lambda c: c["config"].update(model="EASE"), "config_hash: recorded"),
    "seed": (lambda c: c.update(seed=7), "seed: recorded 7, its settings give 2020"),
    "protocol": (lambda c: c.update(protocol="loo"), "protocol: recorded loo"),
    "id": (lambda c: c.update(id=c["id"][:-1] + "x"), "id: recorded"),
    "mask_history": (lambda c: c["config"].update(mask_history=False), "config_hash: recorded"),
    "k": (lambda c: c["config"].update(k=7), "config_hash: recorded"),
    "learning_rate": (lambda c: c["config"].update(learning_rate=0.5), "config_hash: recorded"),
    "config_hash": (lambda c: c.update(config_hash="0" * 64), "config_hash: recorded 000"),
    "size of the data": (lambda c: c["data"].update(n_items=9), "data n_items: recorded 9"),
    "frozen split": (
        lambda c: c["data"].update(frozen_split={"name": "x"}),
        "data frozen_split: recorded",
    ),
    "cold metrics": (
        lambda c: c["metrics_cold"]["test"]["cold_items"].update({"recall@10": 0.9}),
        "test cold_items recall@10: recorded 0.9",
    ),
    "cold sizes": (
        lambda c: c["metrics_cold"]["test"]["cold_items_only"].update(n_users=9),
        "test cold_items_only n_users: recorded 9",
    ),
    "an invented cold group": (
        lambda c: c["metrics_cold"]["test"].update(cold_users={"n_users": 3}),
        "test cold_users: the data has no such group",
    ),
}


@pytest.mark.parametrize("case", EDITS)
def test_an_edited_record_is_not_verified(
    folder: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    change, message = EDITS[case]
    assert main(["verify", str(folder)]) == 0
    edit(folder, change)
    capsys.readouterr()
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert message in out and out.endswith("\nNOT verified\n")


#: Records that are no claim of a finished run.
REFUSED: dict[str, tuple[Callable[[Content], object], str]] = {
    "no metrics": (lambda c: c.update(metrics={}), "has no metrics to verify"),
    "empty parts": (lambda c: c.update(metrics={"valid": {}, "test": {}}), "has no metrics"),
    "failed": (lambda c: c.update(status="failed"), "is failed; only a finished run can"),
    "running": (lambda c: c.update(status="running"), "is running; only a finished run can"),
    "no data": (lambda c: c.update(data={}), "does not say which data it read"),
    "a metric in words": (
        lambda c: c["metrics"]["test"].update({"recall@10": "best"}),
        "metrics.test.recall@10 must be a number, found 'best'",
    ),
    "metrics that are none": (
        lambda c: c["metrics"]["test"].update({"recall@10": float("nan")}),
        "metrics.test.recall@10 must be a number, found nan",
    ),
    "metrics as a list": (lambda c: c.update(metrics=[1]), "metrics must be an object"),
    "files as numbers": (lambda c: c["files"].update(log=3), "files.log must be a path"),
    "origin without kind": (lambda c: c.update(origin={"sweep": "s"}), "origin.kind is missing"),
    "origin as a number": (lambda c: c.update(origin=5), "origin must be an object, found 5"),
    "a path as id": (lambda c: c.update(id="../../x"), "record.json: the name '../../x' must be"),
    "seed as text": (lambda c: c.update(seed="1"), "seed must be a whole number, found '1'"),
    "versions as a list": (
        lambda c: c["environment"].update(versions=[]),
        "environment.versions must be an object",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_record_of_no_finished_run_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    change, message = REFUSED[case]
    edit(folder, change)
    assert main(["verify", str(folder)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_deeply_nested_record_or_list_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nested = "[" * 100_000 + "]" * 100_000
    (folder / "topk-test.jsonl").write_text(nested)
    assert main(["verify", str(folder)]) == 2
    assert "topk-test.jsonl, line 1, is not a user's list" in capsys.readouterr().err
    (folder / "record.json").write_text(nested)
    assert main(["verify", str(folder)]) == 2
    assert "record.json is not a run record" in capsys.readouterr().err


def known_item(folder: Path, user: str) -> str:
    """An item that a user has in training."""
    positives = {row.user: row for row in read_rankings(folder / "topk-test.jsonl")}
    assert user in positives
    from recbole_llm.data.loading import load_split
    from recbole_llm.runs.evaluated import known_items
    from recbole_llm.runs.verify import data_config

    split = load_split(data_config(RunRecord.load(folder), None))
    return min(known_items([split.train])[user] - known_items([split.valid, split.test])[user])


#: Changes of the lists' first line, and what verify says.
LISTS: dict[str, tuple[Callable[[Path, Content], object], str]] = {
    "an unknown item": (
        lambda folder, row: row["items"].__setitem__(0, "no-item"),
        "ranks item 'no-item', which the dataset lacks",
    ),
    "padding": (
        lambda folder, row: row["items"].__setitem__(0, "[PAD]"),
        "which the dataset lacks",
    ),
    "a training item": (
        lambda folder, row: row["items"].__setitem__(0, known_item(folder, row["user"])),
        "which the user has in an earlier part: mask_history hides it",
    ),
    "an item twice": (
        lambda folder, row: row["items"].__setitem__(1, row["items"][0]),
        "ranks an item twice",
    ),
    "an unknown user": (
        lambda folder, row: row.update(user="nobody"),
        "User 'nobody' is not among them",
    ),
    "items as a text": (lambda folder, row: row.update(items="abc"), "items must be a list"),
    "hits as texts": (lambda folder, row: row.update(hits=["a"]), "hits must be a list of ranks"),
    "scores of another number": (
        lambda folder, row: row.update(scores=[1.0]),
        "scores must be a list of numbers",
    ),
    "a count as a text": (lambda folder, row: row.update(n_positives="2"), "must be a number"),
}


@pytest.mark.parametrize("case", LISTS)
def test_lists_that_no_run_makes_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    change, message = LISTS[case]
    edit_lists(folder, lambda rows: change(folder, rows[0]))
    assert main(["verify", str(folder)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("field", ["hits", "n_positives"])
def test_hits_that_a_report_would_read_are_compared(folder: Path, field: str) -> None:
    value = {"hits": list(range(20)), "n_positives": 99}[field]
    edit_lists(folder, lambda rows: rows[0].update({field: value}))
    report = verify_run(folder)
    assert not report.agrees and "hits of 1 are not those of the data" in report.text


def test_a_label_that_is_signed_again_meets_the_lists(runner: Train) -> None:
    """Nothing was hidden in the run; its record claims that known items were."""
    folder = Path(runner("ItemKNN", save_topk=20, mask_history=False).folder)

    def change(content: Content) -> None:
        content["config"]["mask_history"] = True
        sign(content)

    edit(folder, change)
    with pytest.raises(ValueError, match="mask_history hides it"):
        verify_run(folder)


def test_metrics_beyond_accuracy_are_recomputed(runner: Train) -> None:
    folder = Path(runner("ItemKNN", save_topk=20, metrics=METRICS, topk=[5, 20]).folder)
    report = verify_run(folder)
    assert report.agrees, report.text
    assert report.text.count("agrees") == 2 * 2 * len(METRICS)
    for metric in METRICS:
        name = f"{metric.lower()}@20"
        edit(folder, lambda c, name=name: c["metrics"]["valid"].__setitem__(
            name, c["metrics"]["valid"][name] + 2 * Rounding({}).tolerance))  # fmt: skip
        report = verify_run(folder)
        assert f"valid {name}" in "".join(x for x in report.text.splitlines() if "DIFFERS" in x)


def test_what_was_not_checked_is_said(folder: Path) -> None:
    text = verify_run(folder).text
    assert "not checked: whether the settings and weights give these lists" in text
    assert "not checked: times, memory, parameter counts, epochs" in text
    edit(folder, lambda c: c["stages"][0].update(metrics={"test": {"recall@10": 0.9}}))
    assert "not checked: metrics of the stage data" in verify_run(folder).text


def test_a_trial_has_no_test_part(folder: Path) -> None:
    edit(folder, lambda c: (c["metrics"].pop("test"), c.update(origin={"kind": "trial"})))
    report = verify_run(folder)
    assert report.agrees and "not checked: the test part, which a trial" in report.text


@pytest.mark.parametrize("model", ["ItemKNN", "LightGCN", "GRU4Rec"])
def test_the_weights_rank_again(runner: Train, model: str) -> None:
    small = {"MAX_ITEM_LIST_LENGTH": 5, "hidden_size": 8} if model == "GRU4Rec" else {}
    folder = Path(runner(model, save_topk=30, **small).folder)
    assert main(["verify", str(folder), "--from_checkpoint"]) == 0
    text = verify_run(folder, from_checkpoint=True).text
    assert "test lists from the checkpoint: the weights give all" in text
    assert "whether the settings and weights" not in text


def test_perfect_lists_are_told_from_those_of_the_weights(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lists and metrics that fit the data agree; the weights alone say that they are forged."""
    from recbole_llm.data.loading import load_split
    from recbole_llm.runs.evaluated import known_items
    from recbole_llm.runs.verify import data_config

    split = load_split(data_config(RunRecord.load(folder), None))
    held = known_items([split.test])

    def perfect(rows: list[Content]) -> None:
        for row in rows[:7]:
            best = sorted(held[row["user"]])
            row["items"] = [*best, *(x for x in row["items"] if x not in best)][:20]
            row["hits"] = list(range(min(len(best), 20)))

    edit_lists(folder, perfect)
    text = verify_run(folder).text
    values = {
        line.split()[1][:-1]: float(line.split()[5])
        for line in text.splitlines()
        if line.startswith("test ") and "here" in line and "@" in line.split()[1]
    }
    edit(folder, lambda c: (c["metrics"]["test"].update(values), c["metrics_cold"].clear()))
    report = verify_run(folder)
    assert report.agrees, report.text
    assert main(["verify", str(folder), "--from_checkpoint"]) == 1
    assert "7 of 120 lists are not those of the weights" in capsys.readouterr().out


def test_weights_of_another_run_are_noticed(folder: Path, runner: Train) -> None:
    other = RunRecord.load(runner("ItemKNN", k=3, save_topk=20).folder)
    shutil.copy(other.files["checkpoint"], RunRecord.load(folder).files["checkpoint"])
    assert not verify_run(folder, from_checkpoint=True).agrees


# -- published records --------------------------------------------------------------------------


@pytest.fixture
def published(folder: Path, small_ml100k: Path, work: Path) -> Path:
    """A record as a report keeps it, with its lists next to it."""
    record = RunRecord.load(folder)
    path = work / "reports" / f"{record.id}.json"
    path.parent.mkdir()
    path.write_text(json.dumps(record.shared()))
    publish_rankings(folder / "record.json", path, 20)
    shutil.rmtree(folder)
    return path


def test_a_published_record_is_verified(published: Path, small_ml100k: Path) -> None:
    lists = sorted(path.name for path in published.parent.glob("*.gz"))
    assert lists == [f"{published.stem}.topk-{part}.jsonl.gz" for part in ("test", "valid")]
    report = verify_run(published, str(small_ml100k))
    assert report.agrees, report.text
    assert main(["verify", str(published), f"--data_path={small_ml100k}"]) == 0


def test_published_lists_are_short_and_have_the_same_bytes_again(folder: Path, work: Path) -> None:
    for name in ("a", "b"):
        (work / name).mkdir()
        publish_rankings(folder / "record.json", work / name / "x.json", 5)
    one, other = (work / name / "x.topk-test.jsonl.gz" for name in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()
    row = json.loads(gzip.decompress(one.read_bytes()).splitlines()[0])
    assert len(row["items"]) == 5 and "scores" not in row and max(row["hits"], default=0) < 5
    assert one.stat().st_size < (folder / "topk-test.jsonl").stat().st_size / 10


def test_a_part_without_published_lists_is_named(published: Path, small_ml100k: Path) -> None:
    published.with_name(f"{published.stem}.topk-valid.jsonl.gz").unlink()
    report = verify_run(published, str(small_ml100k))
    assert report.agrees and "not checked: valid metrics, whose lists" in report.text
    published.with_name(f"{published.stem}.topk-test.jsonl.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"topk-valid\.jsonl is missing"):
        verify_run(published, str(small_ml100k))


@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_a_damaged_archive_is_named(published: Path, small_ml100k: Path, how: str) -> None:
    path = published.with_name(f"{published.stem}.topk-test.jsonl.gz")
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
    if how == "flipped":
        content[len(content) // 2 : len(content) // 2 + 4] ^= 255
    path.write_bytes(content[: len(content) - 20 * (how == "cut")].tobytes())
    with pytest.raises(ValueError, match=r"topk-test\.jsonl\.gz(, line \d+,)? is"):
        verify_run(published, str(small_ml100k))


def test_the_folder_of_a_record_is_where_it_was_read(folder: Path, work: Path) -> None:
    """A foreign record that names another folder writes nothing there."""
    edit(folder, lambda c: c.update(folder="../../elsewhere"))
    record = RunRecord.load(folder)
    assert record.folder == str(folder)
    assert record.save() == folder / "record.json"
    assert not (work.parent.parent / "elsewhere").exists()
    assert record.shared()["folder"] == record.id
