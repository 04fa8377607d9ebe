"""The Python API: the functions of the package, whatever was imported before."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import recbole_llm
from recbole_llm import compat_api
from recbole_llm.record import RunRecord

NAMES = ["encode", "load", "prepare", "report", "run", "split", "sweep"]


def test_importing_the_package_loads_no_torch() -> None:
    code = "import recbole_llm, sys; print('torch' in sys.modules, recbole_llm.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "False"


@pytest.mark.parametrize("first", ["", "import recbole_llm.report.write, recbole_llm.sweep.spec"])
def test_every_function_can_be_called_whatever_was_imported(first: str) -> None:
    """``report``, ``sweep`` and ``prepare`` are packages too."""
    code = f"""
{first}
import recbole_llm
for name in {NAMES}:
    assert callable(getattr(recbole_llm, name)), name
    assert name in dir(recbole_llm), name
for call in (lambda: recbole_llm.report("no.yaml"), lambda: recbole_llm.sweep("no.yaml")):
    try:
        call()
    except FileNotFoundError as error:
        print(error)
from recbole_llm.report.write import write_report
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("no.yaml") == 2


def test_prepare_split_and_run_follow_each_other(work: Path) -> None:
    rows = [f"u{n % 20},i{(n * 7) % 30},{n}" for n in range(400)]
    Path("clicks.csv").write_text("\n".join(["user,item,time", *rows]) + "\n")
    prepared = recbole_llm.prepare(
        "csv", inter="clicks.csv", user_column="user", item_column="item", time_column="time",
        name="shop", filters={"duplicates": "all"},
    )  # fmt: skip
    assert prepared.manifest["statistics"]["interactions"] == 400
    frozen = recbole_llm.split("shop", "loo", "mine")
    assert frozen.name == "mine"
    record = recbole_llm.run("Pop", "shop", split="mine", show_progress=False)
    assert record.status == "finished"
    for call, text in [
        (lambda: recbole_llm.prepare("cvs"), "Did you mean 'csv'"),
        (lambda: recbole_llm.prepare("csv"), "needs the option 'inter'"),
        (lambda: recbole_llm.prepare("csv", inter="x", sise=1), "no option 'sise'"),
        (lambda: recbole_llm.prepare("csv", inter="x", filters={"kcore": 1}), "k_core"),
    ]:
        with pytest.raises(ValueError, match=text):
            call()


def test_names_of_recbole(runner: Callable[..., RunRecord]) -> None:
    record = runner("BPR")
    for place in (record.folder, record.files["checkpoint"]):
        config, model, dataset, _, _, test = compat_api.load_data_and_model(place)
        assert config["model"] == "BPR"
    users = dataset.token2id("user_id", ["5", "9"])
    scores, items = compat_api.full_sort_topk(users, model, test, k=6)
    table = recbole_llm.load(record.folder).recommend(["5", "9"], k=6)
    assert dataset.id2token("item_id", items).flatten().tolist() == table["item"].tolist()
    torch.testing.assert_close(scores.flatten(), torch.tensor(table["score"].to_numpy()))
    with pytest.raises(AttributeError, match=r"recbole_llm\.sweep"):
        compat_api.objective_function  # noqa: B018
    with pytest.raises(ValueError, match="recommend"):
        compat_api.full_sort_topk([0], model, test, k=6)
