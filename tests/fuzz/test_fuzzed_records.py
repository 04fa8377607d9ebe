"""Edited records, lists and journals: one line, and none is called verified."""

import json
import shutil
from pathlib import Path

import pytest
from fuzzing import FUZZ, changed, damaged
from hypothesis import given
from hypothesis import strategies as st

import recbole_llm
from recbole_llm.cli.main import main
from recbole_llm.record import RunRecord
from recbole_llm.runs.rankings import read_rankings
from recbole_llm.runs.rounding import Rounding
from recbole_llm.runs.verify import verify_run
from recbole_llm.settings.fingerprint import VOLATILE_KEYS
from recbole_llm.sweep.store import open_store
from recbole_llm.sweep.study import Queue

#: Fields that `verify` says it did not check, and places.
UNCHECKED = set(
    "stages epochs environment command origin started finished best_epoch error".split()
)
UNCHECKED |= {"folder", "files"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, small_ml100k: Path) -> Path:
    """The folder of a finished run with its lists."""
    root = tmp_path_factory.mktemp("runs")
    quiet = {"data_path": str(small_ml100k), "show_progress": False, "state": "WARNING"}
    places = {name: str(root / name) for name in ("runs_dir", "checkpoint_dir", "cache_dir")}
    record = recbole_llm.run("ItemKNN", "ml-100k", save_topk=20, **quiet, **places)
    return Path(record.folder)


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    return folder


def shown(content: object) -> str:
    return json.dumps(content, sort_keys=True)


def same_where_checked(before: dict, after: dict) -> bool:
    """Whether two records differ only in what `verify` does not check."""
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if key in UNCHECKED or shown(old) == shown(new):
            continue
        if key == "config" and isinstance(new, dict):
            old, new = ({k: v for k, v in c.items() if k not in VOLATILE_KEYS} for c in (old, new))
        elif key == "data" and isinstance(new, dict):
            left_out = {"modalities", "user_profiles"}
            old, new = ({k: v for k, v in c.items() if k not in left_out} for c in (old, new))
        elif key == "metrics_cold":  # what a record leaves out, it does not claim
            old, new = claimed_by_both(old or {}, new or {})
        elif key == "metrics" and near(old, new):
            continue
        if shown(old) != shown(new):
            return False
    return True


def claimed_by_both(old: dict, new: dict) -> tuple[dict, dict]:
    """Return two nested dicts without the keys that one of them lacks."""
    pairs = {key: (old[key], new[key]) for key in old if key in new}
    nested = {
        key: claimed_by_both(*pair) if all(isinstance(x, dict) for x in pair) else pair
        for key, pair in pairs.items()
    }
    return {key: pair[0] for key, pair in nested.items()}, {k: p[1] for k, p in nested.items()}


def near(old: object, new: object) -> bool:
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(near(old[key], new[key]) for key in old)
    return abs(old - new) <= 2 * Rounding({}).tolerance  # type: ignore[operator]


@FUZZ
@given(data=st.data())
def test_a_changed_record_is_not_verified(copy, data):
    path = copy / "record.json"
    original = path.read_text()
    content, _ = changed(data, json.loads(original))
    path.write_text(json.dumps(content))
    try:
        agrees = verify_run(copy).agrees
    except (ValueError, OSError) as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert not agrees or same_where_checked(json.loads(original), content)
    finally:
        path.write_text(original)


@FUZZ
@given(data=st.data())
def test_damaged_lists_are_not_verified(copy, data):
    path = copy / "topk-test.jsonl"
    original = path.read_bytes()
    expected = [(row.user, row.items, row.hits, row.n_positives) for row in read_rankings(path)]
    path.write_bytes(damaged(data, original))
    try:
        if verify_run(copy).agrees:
            rows = read_rankings(path)
            assert [(row.user, row.items, row.hits, row.n_positives) for row in rows] == expected
    except (ValueError, OSError) as error:
        assert str(path) in str(error) or "user" in str(error)
    finally:
        path.write_bytes(original)


@FUZZ
@given(data=st.data())
def test_a_damaged_record_is_one_line(copy, capsys, data):
    path = copy / "record.json"
    original = path.read_bytes()
    path.write_bytes(damaged(data, original))
    try:
        RunRecord.load(copy)
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    finally:
        path.write_bytes(original)


@FUZZ
@given(data=st.data())
def test_a_report_of_a_changed_record(copy, monkeypatch, capsys, data):
    monkeypatch.chdir(copy.parent)
    spec = "name: t\ndatasets: [ml-100k]\nmodels: [ItemKNN]\nseeds: [2020]\n"
    Path("t.yaml").write_text(spec)
    path = copy / "record.json"
    original = path.read_text()
    content, _ = changed(data, json.loads(original))
    path.write_text(json.dumps(content))
    shutil.rmtree("out", ignore_errors=True)
    try:
        status = main(["report", "t.yaml", "--runs", str(copy.parent), "--output=out"])
        assert status in (0, 1, 2), capsys.readouterr().err
    finally:
        path.write_text(original)


@FUZZ
@given(data=st.data())
def test_a_damaged_journal(tmp_path, data):
    path = tmp_path / "journal.log"
    for file in tmp_path.iterdir():
        file.unlink()
    plan = [{"x": 1}, {"x": 2}]
    Queue(open_store(str(path), 60), "s", {"data": {}}, plan)
    content = damaged(data, path.read_bytes())
    path.write_bytes(content)
    try:
        queue = Queue(open_store(str(path), 60), "s", {"data": {}}, plan)
    except (ValueError, OSError) as error:
        assert str(path) in str(error) or "study 's'" in str(error)
        return
    assert len(queue.budget_slots()) == 2
