"""Several processes train one model: the numbers of one process, one writer, and a killed one."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from typing import Any

import psutil
import pytest
import torch
from recbole.utils import InputType

from recbole_llm import processes
from recbole_llm.cli.main import main
from recbole_llm.config import Config
from recbole_llm.launcher import Place, check_launcher, launched, own_gpu
from recbole_llm.model.base import DotProductRecommender
from recbole_llm.processes import Share
from recbole_llm.record import RunRecord
from recbole_llm.runs.rankings import read_rankings
from recbole_llm.trainer.trainer import check_processes

Train = Callable[..., RunRecord]
HELPERS = Path(__file__).parent / "helpers"

# The graph-aware losses draw neighbours at random, so that this one has no numbers to compare.
GALREC = {
    "MAX_ITEM_LIST_LENGTH": 6,
    "prefixes_per_user": 1,
    "prompts": "galrec_short",
    "n_first_order": 3,
    "n_second_order": 2,
    "queue_size": 32,
    "lora_r": 2,
    "gal_rows": 7,
    "gradient_accumulation_steps": 1,
    "external_stage": {"embedding_size": 16, "epochs": 1},
}

# 999: the batches, their halves and the last batch are uneven. Nothing is dropped at random.
COMMON = {"epochs": 2, "train_batch_size": 999, "learning_rate": 0.01, "save_topk": 10}
GENRES = {"modalities": {"genre": {"multi_hot": "class"}}}
SASREC = {
    "hidden_size": 16,
    "inner_size": 32,
    "hidden_dropout_prob": 0,
    "attn_dropout_prob": 0,
    "MAX_ITEM_LIST_LENGTH": 20,
    "train_batch_size": 45,
}
STAGE = {"epochs": 1, "learning_rate": 0.001}
RUNS: dict[str, dict[str, Any]] = {
    "LightGCN": {"clip_grad_norm": {"max_norm": 0.01}, "lr_schedule": "cosine"},
    "SASRecCausal": {**SASREC, "gradient_accumulation_steps": 2},
    "MGCN": GENRES,
    "FREEDOM": {**GENRES, "edge_dropout": 0.5},
    "HeLLM": {
        **GENRES,
        "learning_rate": 0.001,
        "train_batch_size": 47,
        "MAX_ITEM_LIST_LENGTH": 10,
        "prompt": "hellm_short",
        "pool_dim": 4,
        "prefix_mlp_size": 8,
        "prefix_dropout": 0,
        "n_prefix": 2,
        "lora_r": 2,
        "lora_dropout": 0,
        "graph_stage": {**STAGE, "embedding_size": 16, "eval_step": 1, "cl_anchors": 50},
        "sequence_stage": {**SASREC, **STAGE},
    },
}


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
ACCELERATE += ["--num_machines=1", "--num_processes=2", "--mixed_precision=no"]
ACCELERATE += ["--dynamo_backend=no"]


def launch(launcher: list[str], work: Path, *words: str, gpus: str = "") -> "Popen[str]":
    """Start two processes of a program, with one output; ``gpus`` are those that they see."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
        "CUDA_VISIBLE_DEVICES": gpus,
        "PYTHONPATH": os.pathsep.join([str(HELPERS.parent.parent), str(HELPERS)]),
    }
    return Popen(
        [*launcher, *words], cwd=work, env=environment, stdout=PIPE, stderr=STDOUT, text=True
    )


@pytest.fixture(scope="module")
def trained_by_two(
    tmp_path_factory: pytest.TempPathFactory, small_ml100k: Path, tiny_llm: str
) -> tuple[Path, dict[str, RunRecord]]:
    """Folder and records of all ``RUNS``, trained by two processes one after the other."""
    folder = tmp_path_factory.mktemp("two")
    runs = [{"model": m, **settings_of(m, small_ml100k, tiny_llm)} for m in [*RUNS, "GALRec"]]
    process = launch(TORCHRUN, folder, str(HELPERS / "together.py"), json.dumps(runs))
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    records = [RunRecord.load(path) for path in sorted((folder / "runs").iterdir())]
    return folder, {record.model: record for record in records}


def settings_of(model: str, data_path: Path, llm_path: str) -> dict[str, Any]:
    own = {"llm_path": llm_path} if model in ("HeLLM", "GALRec") else {}
    quiet = {"data_path": str(data_path), "show_progress": False, "torch_threads": 1}
    return {**quiet, "state": "WARNING", **COMMON, **own, **(RUNS | {"GALRec": GALREC})[model]}


def assert_same_numbers(found: RunRecord, expected: RunRecord) -> None:
    """Compare the losses and the metrics of every epoch and stage, and the final ones."""
    assert len(found.epochs) == len(expected.epochs) > 0
    for entry, other in zip(found.epochs, expected.epochs, strict=True):
        assert entry["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert entry["valid"] == pytest.approx(other["valid"], abs=1e-5)
    assert found.best_epoch == expected.best_epoch
    for part in ("valid", "test"):
        assert found.metrics[part] == pytest.approx(expected.metrics[part], abs=1e-5)
    assert len(found.stages) == len(expected.stages)
    for stage, its_like in zip(found.stages, expected.stages, strict=True):
        assert (stage.name, stage.trainable) == (its_like.name, its_like.trainable)
        for part, metrics in its_like.metrics.items():
            assert stage.metrics[part] == pytest.approx(metrics, abs=1e-5)


def assert_same_lists(found: Path, expected: Path) -> None:
    """Compare top-k lists: two items may change places where their scores are equal to 1e-5."""
    lists = [list(read_rankings(path)) for path in (found, expected)]
    assert len(lists[0]) == len(lists[1]) > 100
    for one, other in zip(*lists, strict=True):
        assert (one.user, one.n_positives) == (other.user, other.n_positives)
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
        for item, same, score in zip(one.items, other.items, other.scores or [], strict=True):
            if item != same and same in one.items:
                assert (one.scores or [])[one.items.index(same)] == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("model", list(RUNS))
def test_two_processes_give_the_numbers_of_one(
    model: str,
    trained_by_two: tuple[Path, dict[str, RunRecord]],
    runner: Train,
    small_ml100k: Path,
    tiny_llm: str,
) -> None:
    folder, records = trained_by_two
    found, expected = records[model], runner(model, **settings_of(model, small_ml100k, tiny_llm))
    assert found.config_hash == expected.config_hash
    assert (found.environment["processes"], expected.environment["processes"]) == (2, 1)
    assert_same_numbers(found, expected)
    for part in ("topk_valid", "topk_test"):
        assert_same_lists(folder / found.files[part], Path(expected.files[part]))


def test_each_run_has_one_writer(trained_by_two: tuple[Path, dict[str, RunRecord]]) -> None:
    folder, records = trained_by_two
    assert list(records) == [*RUNS, "GALRec"]
    assert len(list((folder / "runs").iterdir())) == len(records)
    n_trainings = len(records) + 3  # HeLLM has two earlier stages, GALRec one
    assert len(list((folder / "log_tensorboard").glob("*/*"))) == n_trainings
    for record in records.values():
        assert record.status == "finished"
        assert (folder / record.files["log"]).is_file()
        checkpoints = Path(folder, "saved", record.id).glob("*.pth")
        assert [path.name for path in checkpoints] == ["best.pth"]


def worker_of(launcher: "Popen[str]", rank: int) -> psutil.Process:
    """Return the process of a number that a launcher started."""
    workers = psutil.Process(launcher.pid).children()
    (worker,) = [each for each in workers if each.environ().get("RANK") == str(rank)]
    return worker


def wait_for_log(work: Path, text: str, process: "Popen[str]") -> None:
    end = time.monotonic() + 240
    while not any(text in path.read_text() for path in work.glob("log/*/*.log")):
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.02)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_others_and_the_run_resumes(
    killed: int, runner: Train, work: Path, small_ml100k: Path
) -> None:
    settings = {"epochs": 12, "checkpoint_s": 0, "train_batch_size": 255, "learning_rate": 0.01}
    words = ["-m", "recbole_llm", "run_recbole", "--model=LightGCN", "--dataset=ml-100k"]
    words += [f"--data_path={small_ml100k}", "--torch_threads=1", "--show_progress=false"]
    launcher = launch(
        TORCHRUN, work, *words, *(f"--{key}={value}" for key, value in settings.items())
    )
    try:
        wait_for_log(work, "epoch 4/", launcher)
        begin = time.monotonic()
        worker_of(launcher, killed).send_signal(signal.SIGKILL)
        output, _ = launcher.communicate(timeout=60)
    finally:
        launcher.kill()
    assert time.monotonic() - begin < 60 and launcher.returncode != 0
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert f"process {1 - killed} of 2" in line and "another process of this run" in line
    assert line.endswith("The same command with --resume continues the run.")
    assert "recbole_llm/trainer" not in output, "no traceback of the package"

    (path,) = (work / "runs").iterdir()
    assert RunRecord.load(path).status == ("running" if killed == 0 else "failed")
    resumed = runner("LightGCN", **settings, resume=True, state="INFO")  # by one process
    assert (work / resumed.folder).samefile(path)
    assert "resumed after epoch" in (work / resumed.files["log"]).read_text()
    assert_same_numbers(resumed, runner("LightGCN", **settings))


def test_one_error_line_from_all_processes(work: Path, small_ml100k: Path) -> None:
    """accelerate starts two processes, and the first one refuses a model of RecBole's own."""
    words = ["-m", "recbole_llm", "--dataset=ml-100k", f"--data_path={small_ml100k}"]
    launcher = launch(ACCELERATE, work, *words, "--model=BPR")
    output, _ = launcher.communicate(timeout=120)
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "model BPR is trained by one process" in line and "over 2 processes" in line
    assert launcher.returncode != 0 and not (work / "runs").exists()


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_give_the_numbers_of_one(
    runner: Train, work: Path, small_ml100k: Path, tiny_llm: str
) -> None:
    settings = settings_of("HeLLM", small_ml100k, tiny_llm)
    runs = json.dumps([{"model": "HeLLM", **settings}])
    process = launch(TORCHRUN, work, str(HELPERS / "together.py"), runs, gpus="0,1")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    (path,) = (work / "runs").iterdir()
    found, expected = RunRecord.load(path), runner("HeLLM", **settings)
    for entry, other in zip(found.epochs, expected.epochs, strict=True):
        assert entry["loss"] == pytest.approx(other["loss"], rel=1e-4)  # sums of another order


# ---- the parts, without a second process


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 12])
@pytest.mark.parametrize("n_processes", [1, 2, 5])
def test_shares_are_contiguous_whole_and_even(n: int, n_processes: int) -> None:
    shares = [range(n)[Share(each, n_processes).rows(n)] for each in range(n_processes)]
    assert [row for share in shares for row in share] == list(range(n))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1 and sizes == sorted(sizes, reverse=True)


def set_launched(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_launcher_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched() == Place(0, 1, 0)
    set_launched(monkeypatch, RANK="3", WORLD_SIZE="4", LOCAL_RANK="1")
    assert launched() == Place(3, 4, 1) and str(launched()) == "process 3 of 4"
    monkeypatch.delenv("RANK")
    with pytest.raises(ValueError, match=r"RANK=''.*torchrun --nproc-per-node"):
        launched()


@pytest.mark.parametrize(
    ("gpu_id", "visible", "local_rank", "expected"),
    [
        ("0", None, 1, "1"),  # the machine's GPUs in order
        ("0", "4,6", 1, "6"),  # those that Slurm gave
        ("2,3", None, 1, "3"),  # those that the user named
        ("", None, 1, ""),  # the CPU
        ("0", "", 1, ""),
    ],
)
def test_each_process_has_a_gpu(
    gpu_id: str,
    visible: str | None,
    local_rank: int,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_launched(monkeypatch, RANK="9", WORLD_SIZE="16", LOCAL_RANK=str(local_rank))
    assert own_gpu(gpu_id, visible) == expected


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    set_launched(monkeypatch, RANK="9", WORLD_SIZE="16", LOCAL_RANK="2")
    with pytest.raises(ValueError, match=r"process 9 of 16 has no GPU: 2 named \('4,6'\)"):
        own_gpu("0", "4,6")


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("ACCELERATE_USE_FSDP", "true", "asks for FSDP"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "asks for DeepSpeed"),
        ("ACCELERATE_MIXED_PRECISION", "bf16", "mixed_precision=bf16.*--llm_dtype"),
    ],
)
def test_what_accelerate_asks_for_in_vain(
    variable: str, value: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_launcher()
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=text):
        check_launcher()


@pytest.mark.parametrize("key", ["nproc", "world_size", "local_rank", "single_spec"])
def test_recboles_own_arguments_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match=rf"{key} \(command line\).*torchrun --nproc-per-node=N"):
        Config("LightGCN", "ml-100k", command_line={key: 2})


def test_only_a_run_takes_several_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_launched(monkeypatch, RANK="0", WORLD_SIZE="2", LOCAL_RANK="0")
    assert main(["sweep", "spec.yaml"]) == 2
    assert "sweep is one process, and 2 were started" in capsys.readouterr().err


class Silent(DotProductRecommender):
    """A user's model that does not say how its loss is split."""

    input_type = InputType.PAIRWISE


class Declared(Silent):
    """A user's model whose loss is a mean over rows."""

    def n_loss_terms(self, batch: Any) -> int:
        return len(batch)


@pytest.mark.parametrize(
    ("model", "is_known"),
    [("LightGCN", True), ("test_processes:Declared", True), ("test_processes:Silent", False)],
)
def test_how_a_loss_is_split_has_to_be_known(
    model: str, is_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(model, "ml-100k")
    check_processes(config)
    monkeypatch.setattr(processes, "_place", Place(0, 2, 0))
    if is_known:
        check_processes(config)
    else:
        with pytest.raises(ValueError, match="model Silent is trained by one process"):
            check_processes(config)
