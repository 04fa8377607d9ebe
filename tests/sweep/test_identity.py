"""A study goes on with the settings and data of its start, or is refused with what has changed."""

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from small_sweep import write_grid, write_spec

from recbole_llm.cli.main import main
from recbole_llm.config import Config
from recbole_llm.sweep.driver import sweep_spec
from recbole_llm.sweep.fingerprint import data_files, study_identity
from recbole_llm.sweep.identity import differences
from recbole_llm.sweep.spec import load_spec

DB = "sqlite:///runs/sweeps/t/studies.db"


def quiet(line: str) -> None:
    """Take a line of progress."""


def test_an_identity_has_all_but_the_budget_and_the_places(work: Path) -> None:
    def identity(overrides: dict[str, Any] | None = None, **over: Any) -> Any:
        spec = load_spec(write_spec(work, **over))
        return study_identity(spec, spec.rows[0], "ml-100k", overrides or {})

    random = {"sampler": "random", "n_trials": 4}
    first = identity(search=random)
    assert identity(search={**random, "n_trials": 99, "timeout_s": 5}) == first
    assert identity({"torch_threads": 2, "cache_dir": "elsewhere"}, search=random) == first
    assert first["data"].keys() == {"ml-100k.inter", "ml-100k.user", "ml-100k.item"}
    for over in (
        {"search": {"sampler": "tpe", "n_trials": 4}},
        {"settings": {"epochs": 3}},
        {"space": {"learning_rate": [1e-3]}},
        {"seeds": [2, 1]},
        {"metric": "ndcg@10"},
    ):
        assert identity(**{"search": random, **over}) != first, over
    tuned = {"search": None, "space": None}
    assert identity(**tuned, seeds=[1, 2]) == identity(**tuned, seeds=[2]), "each has its own run"
    space = {"learning_rate": [0.1, 0.2], "train_batch_size": [8, 16]}
    backwards = dict(reversed(space.items()))
    assert identity(space=space) != identity(space=backwards), "a sampler draws in this order"
    assert identity(models=["CFKG"])["data"].keys() - first["data"] == {
        "ml-100k.kg",
        "ml-100k.link",
    }


def test_differences_name_the_first_of_each_part() -> None:
    before = {"settings": {"a": 1, "b": 2, "c": "x" * 99}, "data": {"t.inter": "1"}}
    after = {
        "settings": {"a": 1, "b": 3, "d": 0},
        "data": {"t.inter": "2"},
        "search": {"order": []},
    }
    assert differences(before, after) == (
        "settings (b was 2, is 3, and 2 more); data (t.inter has changed); "
        "search (order was not set, is [])"
    )
    assert differences(before, before) == ""


def test_a_config_file_edited_between_two_calls_is_refused(
    work: Path, fakes: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = fakes(lambda settings: 0.5)
    shared = work / "a.yaml"
    shared.write_text("reg_weight: 0.01\nembedding_size: 8\n")
    path = write_spec(work, settings={"config_files": [str(shared)]}, models=["LightGCN"])
    assert main(["sweep", str(path)]) == 0
    n_runs = len(ran)
    shared.write_text("# a comment changes nothing\nembedding_size: 8\nreg_weight: 0.01\n")
    assert main(["sweep", str(path)]) == 0 and len(ran) == n_runs
    shared.write_text("reg_weight: 0.5\nembedding_size: 8\n")
    assert main(["sweep", str(path)]) == 2 and len(ran) == n_runs
    (line,) = capsys.readouterr().err.splitlines()
    assert "settings (reg_weight was 0.01, is 0.5)" in line and "Give another --study-name" in line


def test_data_changed_between_two_calls_is_refused(
    work: Path, own_ml100k: Path, fakes: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = fakes(lambda settings: 0.5)
    line = ["sweep", str(write_spec(work)), f"--data_path={own_ml100k}"]
    assert main(line) == 0
    moved = own_ml100k.rename(work / "moved")
    line[-1] = f"--data_path={moved}"
    n_runs = len(ran)
    assert main(line) == 0 and len(ran) == n_runs, "the folder's place is no part of the data"
    file = moved / "ml-100k" / "ml-100k.inter"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    assert main(line) == 2 and len(ran) == n_runs
    assert "other data (ml-100k.inter has changed)" in capsys.readouterr().err
    assert main([*line, "--study-name=new"]) == 0 and len(ran) == 2 * n_runs


def test_a_dataset_without_interactions_is_refused_before_any_trial(
    work: Path, fakes: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = fakes(lambda settings: 0.5)
    assert main(["sweep", str(write_spec(work, datasets=["shop"]))]) == 2 and not ran
    assert "dataset 'shop': no folder" in capsys.readouterr().err


def test_features_and_profiles_are_data(work: Path, own_ml100k: Path) -> None:
    folder = own_ml100k / "ml-100k"
    np.save(folder / "text.npy", np.zeros((3, 2)))
    (folder / "item_ids.txt").write_text("1\n2\n3\n")
    profiles = work / "profiles"
    profiles.mkdir()
    (profiles / "user_profile_feat.npy").write_bytes(b"1")
    settings = {
        "data_path": str(own_ml100k),
        "modalities": {"text": "text.npy"},
        "user_profile": str(profiles),
    }
    found = [path.name for path in data_files(Config("MLLMRec", "ml-100k", [], settings))]
    expected = "ml-100k.inter ml-100k.user ml-100k.item text.npy item_ids.txt user_profile_feat.npy"
    assert found == expected.split()


def test_a_study_of_an_earlier_release_is_refused(
    work: Path, fakes: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fakes(lambda settings: 0.5)
    (work / "runs/sweeps/t").mkdir(parents=True)
    study = optuna.create_study(study_name="t/ml-100k/BPR", storage=DB, direction="maximize")
    study.set_user_attr("digest", "0123456789abcdef")
    assert main(["sweep", str(write_spec(work))]) == 2
    assert "was started by an earlier release" in capsys.readouterr().err


def test_a_point_or_seed_that_replaces_another_is_run(work: Path, fakes: Any) -> None:
    ran = fakes(lambda settings: settings["learning_rate"])

    def jobs() -> list[tuple[float, int]]:
        found = [(run["learning_rate"], run["seed"]) for run in ran]
        ran.clear()
        return found

    assert sweep_spec(write_grid(work, 0.1, 0.2, seeds=[1, 2]), say=quiet).complete
    assert jobs() == [(0.1, 1), (0.1, 2), (0.2, 1), (0.2, 2)]
    summary = sweep_spec(write_grid(work, 0.1, 0.15, 0.2, seeds=[1, 3]), say=quiet)
    assert jobs() == [(0.1, 3), (0.15, 1), (0.15, 3), (0.2, 3)] and summary.complete
    assert "final runs: 6 of 6" in summary.text
    assert sweep_spec(write_grid(work, 0.1, 0.2, seeds=[1, 2]), say=quiet).complete
    assert jobs() == [], "all of these were run by the first call"
