"""Runs of earlier versions load, or the error names the version that made them.

``old/`` is a run of LightGCN on a toy dataset, made by the code of commit 5be519d:
``run_recbole --model=LightGCN --dataset=toy --data_path=dataset --epochs=2 --embedding_size=4
--n_layers=1 --topk=[3,5] --valid_metric=NDCG@5 --save_topk=5 --use_gpu=false
--load_col={inter:[user_id,item_id,timestamp]}``.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_llm.data.loading import build_loaders
from recbole_llm.record import RunRecord
from recbole_llm.runs.reload import load_run
from recbole_llm.runs.verify import verify_run
from recbole_llm.trainer.trainer import build_trainer

OLD = Path(__file__).parent / "old"


@pytest.fixture
def old_run(work: Path) -> Path:
    """Lay the old run out as it was left, and return its folder."""
    content = json.loads((OLD / "record.json").read_text())
    folder, checkpoint = Path(content["folder"]), Path(content["files"]["checkpoint"])
    for source, target in (
        ("toy.inter", Path("dataset/toy/toy.inter")),
        ("record.json", folder / "record.json"),
        ("topk-valid.jsonl", folder / "topk-valid.jsonl"),
        ("topk-test.jsonl", folder / "topk-test.jsonl"),
        ("best.pth", checkpoint),
    ):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(OLD / source, target)
    return folder


def change(folder: Path, **fields: Any) -> None:
    """Change fields of a run's record; None deletes one."""
    path = folder / "record.json"
    content = json.loads(path.read_text()) | fields
    content = {name: value for name, value in content.items() if value is not None}
    path.write_text(json.dumps(content))


def test_an_old_run_loads_with_its_metrics(old_run: Path) -> None:
    loaded = load_run(old_run)
    trainer = build_trainer(loaded.config, loaded.model)
    loaders = build_loaders(loaded.config, loaded.split)
    trainer.eval_collector.data_collect(loaders.train)
    for part in ("valid", "test"):
        metrics = trainer.evaluate(getattr(loaders, part), load_best_model=False)
        assert metrics == loaded.record.metrics[part]


def test_an_old_run_is_verified(old_run: Path) -> None:
    result = verify_run(old_run)
    assert result.agrees, result.text
    assert result.text.count("agrees") == 2 * 2 * 2  # parts, metrics, cut-offs


def test_other_fields_are_named_with_the_version_that_wrote_them(old_run: Path) -> None:
    change(old_run, speed=3, seed=None)
    message = r"lacks seed\. It was written by recbole-llm 0\.1\.0; this is "
    with pytest.raises(ValueError, match=message):
        RunRecord.load(old_run)
    change(old_run, seed=2020)
    with pytest.raises(ValueError, match=r"has the unknown speed\. It was written by recbole-llm"):
        RunRecord.load(old_run)


def test_a_setting_that_is_gone_is_named_with_the_version(old_run: Path) -> None:
    config = json.loads((old_run / "record.json").read_text())["config"]
    change(old_run, config=config | {"old_setting": 1})
    with pytest.raises(ValueError, match=r"old_setting\. It was made by recbole-llm 0\.1\.0; this"):
        load_run(old_run)


def test_a_setting_younger_than_the_run_takes_its_default(old_run: Path) -> None:
    config = json.loads((old_run / "record.json").read_text())["config"]
    del config["reg_weight"]
    change(old_run, config=config)
    assert load_run(old_run).config["reg_weight"] is not None


@pytest.mark.parametrize(("version", "said"), [(None, "0.1.0 or older"), ("9.9.9", "9.9.9")])
def test_weights_of_another_form_are_named_with_the_version(
    version: str | None, said: str, old_run: Path
) -> None:
    path = Path(RunRecord.load(old_run).files["checkpoint"])
    content = torch.load(path, weights_only=True)
    assert "version" not in content
    content["state_dict"]["item_embedding.weight"] = torch.zeros(2, 2)
    torch.save(content if version is None else content | {"version": version}, path)
    with pytest.raises(
        ValueError, match=rf"best\.pth \(saved by recbole-llm {said}\) does not fit"
    ):
        load_run(old_run)
