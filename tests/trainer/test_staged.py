"""Stages are trained once, found again, and trained again when anything they depend on changes."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from recbole_llm.config import Config, stage_config
from recbole_llm.data.loading import Split
from recbole_llm.locks import only_writer
from recbole_llm.record import RunRecord, Stage, new_record
from recbole_llm.registry import StageSpec
from recbole_llm.trainer import staged
from recbole_llm.trainer.checkpoint import load_checkpoint, save_checkpoint
from recbole_llm.trainer.harness import HarnessMixin
from recbole_llm.trainer.staged import run_stages

DATASET = SimpleNamespace(user_num=3, item_num=2)
SPLIT = Split(DATASET, None, None, None)  # the stages' training is replaced
DATA = {"files": {"x.inter": "1"}, "split": "2"}


CODE = """
import torch
from recbole.model.general_recommender.bpr import BPR
from recbole_llm.registry import StageSpec

FIRST = StageSpec("staged_models:Inner", keys=("embedding_size",))


class Inner(BPR):
    def export(self):
        assert not self.training
        return {"item_embedding": self.item_embedding.weight.detach().cpu()}


class Single(BPR):
    @classmethod
    def required_stages(cls, config):
        return {"first": FIRST}

    def __init__(self, config, dataset, outputs):
        super().__init__(config, dataset)
        with torch.no_grad():
            self.item_embedding.weight.copy_(outputs["first"]["item_embedding"])


class Outer(Single):
    @classmethod
    def required_stages(cls, config):
        return {"first": FIRST, "second": StageSpec("LightGCN")}


class Exportless(Single):
    @classmethod
    def required_stages(cls, config):
        return {"first": FIRST, "second": StageSpec("BPR")}
"""
STAGED_YAML = "embedding_size: 16\nfirst_stage: {}\nsecond_stage: {}\n"


@pytest.fixture(scope="module", autouse=True)
def staged_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make module ``staged_models`` importable, as a user's own models are."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "staged_models.py").write_text(CODE)
    (folder / "Inner.yaml").write_text("embedding_size: 32\n")
    for name in ("Single", "Outer", "Exportless"):
        (folder / f"{name}.yaml").write_text(STAGED_YAML)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield


@pytest.fixture
def stages(work: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return a function that runs the stages of a model and returns which were trained."""

    def call(data: dict[str, Any] = DATA, with_test: bool = True, **settings: Any) -> list[str]:
        config = Config("staged_models:Outer", "ml-100k", overrides=settings)
        trained = []

        def fit_stage(
            sub: Config, split: Split, folder: Path, stage: Stage, with_test: bool
        ) -> Any:
            trained.append(sub["model"])
            stage.trainable, stage.parameters = 3, 4
            stage.metrics = {"test": {"recall@10": 0.5}}
            return {"item_embedding": torch.full((2, 2), float(len(trained)))}

        call.record = new_record(config, "test")
        with monkeypatch.context() as patch:
            patch.setattr(staged, "fit_stage", fit_stage)
            call.outputs = run_stages(config, SPLIT, data, call.record, with_test)
        return trained

    return call


def test_a_finished_stage_is_read_back(stages: Any) -> None:
    assert stages() == ["Inner", "LightGCN"]
    first, cost = stages.outputs, stages.record.stages
    assert [stage.name for stage in cost] == ["first (staged_models:Inner)", "second (LightGCN)"]
    assert all(stage.cached_from_s is None for stage in cost)
    assert stages() == []
    for name in ("first", "second"):
        assert torch.equal(stages.outputs[name]["item_embedding"], first[name]["item_embedding"])
    assert not torch.equal(first["first"]["item_embedding"], first["second"]["item_embedding"])
    for stage in stages.record.stages:
        assert (stage.trainable, stage.parameters) == (3, 4)
        assert stage.metrics == {"test": {"recall@10": 0.5}}
        assert stage.cached_from_s is not None


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1},
        {"topk": [5], "valid_metric": "Recall@5"},
        {"protocol": "loo"},
        {"user_inter_num_interval": "[5,inf)"},
        {"data": {**DATA, "split": "3"}},
        {"data": {**DATA, "files": {"x.inter": "2"}}},
        {"modalities": ["genre"]},
    ],
)
def test_what_every_stage_depends_on(settings: dict[str, Any], stages: Any) -> None:
    stages()
    assert stages(**settings) == ["Inner", "LightGCN"]
    assert stages(**settings) == []
    assert stages() == [], "the first outputs are still there"


@pytest.mark.parametrize("settings", [{"embedding_size": 8}, {"first_stage": {"epochs": 7}}])
def test_what_one_stage_depends_on(settings: dict[str, Any], stages: Any) -> None:
    stages()
    assert stages(**settings) == ["Inner"]


@pytest.mark.parametrize(
    "settings",
    [
        {"show_progress": False},
        {"checkpoint_s": 0},
        {"runs_dir": "elsewhere"},
        {"checkpoint_dir": "elsewhere"},
        {"data_path": "elsewhere"},
        {"resume": True},
        {"save_topk": 9},
        {"torch_threads": 1},
        {"epochs": 3, "learning_rate": 0.5},  # the last stage's own
    ],
)
def test_what_no_stage_depends_on(settings: dict[str, Any], stages: Any) -> None:
    stages()
    assert stages(**settings) == []


def test_the_code_and_the_version_are_in_the_key(
    stages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages()
    with monkeypatch.context() as patch:
        patch.setattr(staged, "__version__", "9")
        assert stages() == ["Inner", "LightGCN"]
    read = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda p: read(p) + (b"#" if p.name == "staged_models.py" else b"")
    )
    assert stages() == ["Inner"]


@pytest.mark.parametrize(
    ("model", "file", "changes"),
    [
        ("SASRecCausal", "data/loader.py", True),
        ("SASRecCausal", "data/history.py", True),
        ("SASRecCausal", "data/loading.py", True),
        ("SASRecCausal", "trainer/trainer.py", True),
        ("SASRecCausal", "trainer/harness.py", True),
        ("SASRecCausal", "compat.py", True),
        ("LATTICE", "model/modality_graph.py", True),
        ("SASRecCausal", "model/modality_graph.py", False),
        ("SASRecCausal", "model/lattice.py", False),
        ("SASRecCausal", "report/statistics.py", False),
        ("SASRecCausal", "sweep/worker.py", False),
        ("SASRecCausal", "record.py", False),
    ],
)
def test_the_key_covers_the_code_of_the_training_and_no_other(
    model: str, file: str, changes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(model, "ml-100k")
    path = Path(staged.__file__).parents[1] / file
    assert path.is_file()
    before, read = staged._cache_key(config, DATA), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda p: read(p) + (b"#" if p == path else b""))
    assert (staged._cache_key(config, DATA) != before) is changes


def test_every_stage_is_checked_before_the_first_is_trained(stages: Any, work: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown key 'second_stage\.epohcs'"):
        stages(second_stage={"epohcs": 1})
    config = Config("staged_models:Exportless", "ml-100k")
    with pytest.raises(ValueError, match=r"stage 'second' of Exportless is BPR, which has no exp"):
        run_stages(config, SPLIT, DATA, new_record(config, "test"))
    assert not list(work.glob("saved/cache/stages/*"))


def test_without_the_test_part_its_metrics_are_left_out(stages: Any) -> None:
    stages()
    stages(with_test=False)
    assert [stage.metrics for stage in stages.record.stages] == [{}, {}]
    stages()
    assert [list(stage.metrics) for stage in stages.record.stages] == [["test"], ["test"]]


@pytest.mark.parametrize("kept", [0, 200])
def test_damaged_output_is_trained_again(
    kept: int, stages: Any, work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stages()
    (path,) = (work / "saved" / "cache" / "stages").glob("LightGCN-*/output.pth")
    path.write_bytes(path.read_bytes()[:kept])
    with caplog.at_level(logging.WARNING):
        assert stages() == ["LightGCN"]
    assert f"{path.relative_to(work)} is damaged" in caplog.text
    assert "training this stage again" in caplog.text
    assert stages() == []


def test_a_foreign_output_is_trained_again(stages: Any, work: Path) -> None:
    stages()
    (path,) = (work / "saved" / "cache" / "stages").glob("LightGCN-*/output.pth")
    torch.save({"format": "another"}, path)
    assert stages() == ["LightGCN"]


def test_a_stage_gets_what_is_shared_and_keeps_the_rest() -> None:
    line = {"epochs": 3, "learning_rate": 0.5, "seed": 9, "topk": [10, 20, 50], "use_cl": False}
    line |= {"graph_stage.epochs": 7, "mask_history": False, "ITEM_ID_FIELD": "item_id"}
    config = Config("HeLLM", "ml-100k", command_line=line)
    sub = stage_config(config, "graph", StageSpec("HeLLMPretrain", keys=("use_cl",)))
    own = Config("HeLLMPretrain", "ml-100k")
    assert (sub["seed"], sub["topk"], sub["mask_history"]) == (9, [10, 20, 50], False)
    assert sub["use_cl"] is False and own["use_cl"] is True
    assert sub["epochs"] == 7
    assert sub["learning_rate"] == own["learning_rate"]
    assert sub["data_path"] == config["data_path"] and sub["protocol"] == config["protocol"]
    assert sub["modalities"] == config["modalities"]


@pytest.mark.parametrize("protocol", ["loo", "random811"])
def test_a_stage_is_split_like_its_model(protocol: str) -> None:
    config = Config("HeLLM", "ml-100k", overrides={"protocol": protocol})
    for name, model in (("graph", "HeLLMPretrain"), ("sequence", "SASRecCausal")):
        sub = stage_config(config, name, StageSpec(model))
        assert sub["protocol"] == protocol and sub["eval_args"] == config["eval_args"]


def test_custom_and_fixed_splits_are_handed_on() -> None:
    custom = {"split": {"RS": [0.7, 0.1, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"}
    config = Config("HeLLM", "ml-100k", overrides={"eval_args": custom})
    sub = stage_config(config, "graph", StageSpec("HeLLMPretrain"))
    assert sub["protocol"] == "custom" and sub["eval_args"] == config["eval_args"]
    config = Config("HeLLM", "tiktok")
    sub = stage_config(config, "graph", StageSpec("HeLLMPretrain"))
    assert sub["protocol"] == "fixed" and sub["eval_args"] == config["eval_args"]


def test_a_typo_inside_a_stage_is_named() -> None:
    message = "unknown key 'graph_stage.epohcs'.*model HeLLMPretrain.*'graph_stage.epochs'"
    with pytest.raises(ValueError, match=message):
        Config("HeLLM", "ml-100k", command_line={"graph_stage.epohcs": 7})


def test_whole_run_trains_stages_uses_them_and_resumes_within_one(
    runner: Callable[..., RunRecord], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = "staged_models:Single"

    class Stop(BaseException):
        pass

    save = HarnessMixin._save_last

    def save_and_stop(self: Any, nth: int, *rest: Any, **named: Any) -> None:
        save(self, nth, *rest, **named)
        if nth == 1:
            raise Stop

    settings = {"first_stage": {"epochs": 3, "checkpoint_s": 0}, "epochs": 0}
    with monkeypatch.context() as patch:
        patch.setattr(HarnessMixin, "_save_last", save_and_stop)
        with pytest.raises(Stop):
            runner(model, **settings)
    resumed = runner(model, **settings, state="INFO", resume=True)
    assert "resumed after epoch 2" in Path(resumed.files["log"]).read_text()
    names = [stage.name for stage in resumed.stages]
    assert names == ["data", "first (staged_models:Inner)", "training", "evaluation"]
    assert resumed.stages[1].trainable == resumed.stages[1].parameters > 0
    assert resumed.stages[1].cached_from_s is None
    again = runner(model, **settings)
    assert again.stages[1].cached_from_s is not None
    fresh = runner(model, **settings, cache_dir="other")
    assert fresh.stages[1].cached_from_s is None
    assert RunRecord.load(fresh.folder) == fresh and len(fresh.stages) == 4
    for record in (resumed, again, fresh):
        assert record.stages[1].metrics["test"] == fresh.stages[1].metrics["test"]
        assert "recall@10" in record.stages[1].metrics["valid"]
    assert fresh.metrics == again.metrics == resumed.metrics
    (output,) = (work / "other" / "stages").glob("*/output.pth")
    weights = load_checkpoint(Path(fresh.files["checkpoint"]))["state_dict"]
    stage = load_checkpoint(output)["tensors"]["item_embedding"]
    assert torch.equal(weights["item_embedding.weight"], stage)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"item_embedding": torch.full((2, 2), torch.nan)}, "'item_embedding' holds NaN or inf"),
        ({"item_embedding": torch.ones(5, 2)}, r"has shape \(5, 2\), expected 2 rows"),
        ({"user_embedding": torch.ones(2, 2)}, r"has shape \(2, 2\), expected 3 rows"),
        ({"item_embedding": [1.0]}, "'item_embedding' is no tensor"),
    ],
)
def test_kind_8_an_output_that_cannot_be_used_is_trained_again(
    tensors: dict[str, Any],
    message: str,
    stages: Any,
    work: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stages()
    (path,) = (work / "saved" / "cache" / "stages").glob("LightGCN-*/output.pth")
    save_checkpoint(path, load_checkpoint(path) | {"tensors": tensors})
    config = Config("staged_models:Outer", "ml-100k")
    with pytest.raises(ValueError, match=message) as info:
        staged.read_stages(config, DATA, DATASET)
    assert str(path.relative_to(work)) in str(info.value)
    with caplog.at_level(logging.WARNING):
        assert stages() == ["LightGCN"]
    assert f"stage output {path.relative_to(work)}" in caplog.text
    assert "learning_rate" not in caplog.text
    assert stages() == []


def test_kind_8_a_stage_that_exports_nan_is_named_and_not_kept(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config("staged_models:Single", "ml-100k")
    wrong = {"item_embedding": torch.full((2, 2), torch.inf)}
    monkeypatch.setattr(staged, "fit_stage", lambda *_: wrong)
    with pytest.raises(ValueError, match=r"stage 'first' .*, trained in .*holds NaN or infinity"):
        run_stages(config, SPLIT, DATA, new_record(config, "test"))
    assert not list(work.rglob("output.pth"))


def test_kind_8_a_stage_in_training_elsewhere_is_waited_for(
    stages: Any, work: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages()
    monkeypatch.setattr("recbole_llm.locks._GRACE_S", 0)
    (path,) = (work / "saved" / "cache" / "stages").glob("LightGCN-*/output.pth")
    moved = path.rename(work / "output.pth")
    trainer = only_writer(path.parent)  # another process that trains the stage
    trainer.__enter__()
    sleep = time.sleep

    def finish(seconds: float) -> None:
        moved.rename(path)
        trainer.__exit__(None, None, None)
        monkeypatch.setattr("recbole_llm.locks.time.sleep", sleep)

    monkeypatch.setattr("recbole_llm.locks.time.sleep", finish)
    with caplog.at_level(logging.INFO):
        assert stages() == []
    expected = f"Stage 'second': waiting for process id {os.getpid()} on host"
    assert expected in caplog.text
    assert stages.record.stages[1].cached_from_s is not None
