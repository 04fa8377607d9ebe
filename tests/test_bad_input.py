"""Wrong input ends with exit status 2 and a sentence that names it, before hours are spent."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_llm.cli.main import run_recbole

Run = Callable[..., str]


@pytest.fixture
def errors(work: Path, own_ml100k: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command and returns what it prints of its failure."""

    def call(model: str, *options: str, dataset: str = "ml-100k") -> str:
        line = [f"--model={model}", f"--dataset={dataset}", f"--data_path={own_ml100k}"]
        line += ["--epochs=1", "--show_progress=false", "--state=ERROR", "--torch_threads=1"]
        capsys.readouterr()
        status = run_recbole([*line, *options])
        out, err = capsys.readouterr()
        assert status == 2, out + err
        assert out == "" and "Traceback" not in err
        message = re.sub(r"\x1b\[\d+m", "", err)
        assert "error: " in message
        return message[message.index("error: ") :]

    return call


@pytest.fixture
def folder(own_ml100k: Path) -> Path:
    return own_ml100k / "ml-100k"


@pytest.fixture
def items(folder: Path) -> list[str]:
    """Return the item tokens, in the order of the item file."""
    lines = (folder / "ml-100k.item").read_text().splitlines()[1:]
    return [line.split("\t")[0] for line in lines]


def pretrain(error_of: Run, *options: str) -> str:
    return error_of("HeLLMPretrain", "--modalities={image: image.npy}", *options)


# -- the data set's folder ---------------------------------------------------------------------


def test_no_such_dataset(errors: Run, own_ml100k: Path) -> None:
    message = errors("BPR", dataset="ml-1000k")
    assert f"no folder {own_ml100k}/ml-1000k" in message
    assert "Expected files: ml-1000k.inter" in message and "Did you mean 'ml-100k'?" in message


def test_shipped_settings_without_files(errors: Run) -> None:
    message = errors("BPR", dataset="baby")
    assert "baby.train.inter, baby.valid.inter, baby.test.inter" in message
    assert "https://" in message and "Did you mean 'baby'" not in message


def test_folder_without_interactions(errors: Run, own_ml100k: Path) -> None:
    (own_ml100k / "mine").mkdir()
    assert f"mine.inter not in {own_ml100k}/mine" in errors("BPR", dataset="mine")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("user_id\titem_id\trating\ttimestamp", "expected name:type"),
        ("user:token\titem_id:token\trating:float\ttimestamp:float", "no column 'user_id'"),
        ("user_id:token\titem_id:token\trating:float\ttimestamp:token", "'timestamp'"),
    ],
)
def test_wrong_header(header: str, message: str, errors: Run, folder: Path) -> None:
    path = folder / "ml-100k.inter"
    path.write_text("\n".join([header, *path.read_text().splitlines()[1:]]))
    found = errors("BPR", "--protocol=loo")
    assert "ml-100k.inter" in found and message in found


def test_user_with_one_interaction_under_leave_one_out(errors: Run, folder: Path) -> None:
    with (folder / "ml-100k.inter").open("a") as file:
        file.write("lonely\t1\t5\t900000000\n")
    message = errors("BPR", "--protocol=loo")
    assert "1 of 121 users have fewer" in message and "'lonely'" in message
    assert '--user_inter_num_interval="[3,inf)"' in message


# -- features ----------------------------------------------------------------------------------


def test_missing_feature_file(errors: Run, folder: Path) -> None:
    message = pretrain(errors)
    assert "modality 'image' of dataset 'ml-100k'" in message
    assert f"{folder}/image.npy does not exist" in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_with_nan(value: float, errors: Run, folder: Path, items: list[str]) -> None:
    feature = np.ones((len(items), 4), dtype=np.float32)
    feature[6, 2] = value
    np.save(folder / "image.npy", feature)
    message = pretrain(errors)
    assert "image.npy holds NaN or infinity" in message and f"row 6, item '{items[6]}'" in message


def test_short_feature_file(errors: Run, folder: Path, items: list[str]) -> None:
    np.save(folder / "image.npy", np.ones((len(items) - 1, 4), dtype=np.float32))
    wanted = f"image.npy has {len(items) - 1} rows, expected {len(items)}"
    assert wanted in pretrain(errors)


def test_damaged_feature_file(errors: Run, folder: Path, items: list[str]) -> None:
    path = folder / "image.npy"
    np.save(path, np.ones((len(items), 4), dtype=np.float32))
    path.write_bytes(path.read_bytes()[:1000])
    assert "image.npy" in pretrain(errors)
    path.write_bytes(b"not an array")
    assert "image.npy is not a readable .npy array" in pretrain(errors)


def test_item_without_feature(errors: Run, folder: Path, items: list[str]) -> None:
    feature = np.ones((len(items), 4), dtype=np.float32)
    feature[3] = 0
    np.save(folder / "image.npy", feature)
    message = pretrain(errors, "--missing_modality=error")
    assert f"1 of {len(items)} items have no feature (first: '{items[3]}')" in message
    assert "missing_modality must be zero, mean or error" in pretrain(
        errors, "--missing_modality=skip"
    )


def test_model_that_needs_features_without_any(errors: Run) -> None:
    message = errors("HeLLMPretrain", "--modalities={}")
    assert "names no modality" in message and "or set --use_i2i=false" in message


# -- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--embeding_size=8", "unknown key 'embeding_size' (command line)"),
        ("--config_files=none.yaml", "config file 'none.yaml' does not exist"),
        ("--eval_args.split={'XX': [1]}", "XX"),
        ("--eval_args.order=sideways", "sideways"),
        ("--eval_args.mode=zzz", "zzz"),
        ("--topk=[2000]", "topk asks for the best 2000 items, and the dataset has 1265"),
        ("--load_col={'inter': ['user_id']}", "load_col leaves out column 'item_id'"),
        ("--lr_schedule=steps", "lr_schedule must be constant, exponential, cosine or linear"),
    ],
)
def test_wrong_settings(option: str, message: str, errors: Run) -> None:
    extra = ["--valid_metric=Recall@2000"] if "topk" in option else []
    assert message in errors("LightGCN", option, *extra)


def test_a_model_too_large_for_memory(errors: Run) -> None:
    message = errors("LightGCN", "--embedding_size=2000000000")
    assert "model LightGCN does not fit into memory" in message and "Lower its sizes" in message


def test_divergence_is_named_and_not_recorded_as_a_result(errors: Run) -> None:
    message = errors("LightGCN", "--learner=sgd", "--learning_rate=100", "--reg_weight=1e30")
    assert "NaN" in message and "--learning_rate" in message


# -- the disk ----------------------------------------------------------------------------------


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
from recbole_llm.cli.main import run_recbole
sys.exit(run_recbole())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_full_disk(cli: Any, small_ml100k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "command", lambda _, *words: [sys.executable, "-c", LIMITED, *words])
    # best.pth (0.36 MB) fits, last.pth with the optimiser's state (1.1 MB) does not.
    done = cli(
        "600000",
        "--model=LightGCN",
        "--dataset=ml-100k",
        f"--data_path={small_ml100k}",
        "--epochs=2",
        "--show_progress=false",
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (best,) = cli.work.glob("saved/*/*")
    assert best.name == "best.pth"
    last = best.relative_to(cli.work).with_name("last.pth")
    assert f"error: cannot write checkpoint {last}" in done.stderr
    assert "--resume" in done.stderr
