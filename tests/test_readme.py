"""The README's first command does what the README says, and the results are the records'."""

import json
import re
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recbole_llm.cli.settings import parse_settings
from recbole_llm.config import Config

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Return the README's indented run_recbole commands."""
    return re.findall(r"^ {4}(run_recbole .*)$", README, flags=re.MULTILINE)


def demo() -> list[str]:
    match = re.search(r"# sets up \.venv, then runs: (run_recbole .*)$", README, re.MULTILINE)
    assert match, "the README's first screen names no command"
    return match.group(1).split()[1:]


def test_makefile_runs_the_readme_s_command() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"/run_recbole {' '.join(demo())}\n" in makefile


@pytest.mark.parametrize("command", commands())
def test_every_key_of_the_readme_s_commands_exists(command: str, work: Path) -> None:
    settings = parse_settings(shlex.split(command)[1:])
    settings.pop("config_files", None)
    config = Config(settings.pop("model"), settings.pop("dataset"), command_line=settings)
    assert all(config[key.split(".")[0]] is not None for key in settings)


@pytest.mark.slow
@pytest.mark.llm
def test_demo_goes_through_all_stages(tmp_path: Path) -> None:
    code = "import sys; from recbole_llm.cli.main import run_recbole; sys.exit(run_recbole())"
    # Another seed than the README's: no stage may come from a cache that this test finds.
    run = subprocess.run(
        [sys.executable, "-c", code, *demo(), f"--cache_dir={ROOT / 'saved/cache'}", "--seed=7"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    for part in ("valid", "test"):
        assert re.search(rf"^{part} +R@10 0\.\d+  R@20 0\.\d+  N@10 ", run.stdout, re.MULTILINE)
    record_path = re.search(r"^record: (.*)$", run.stdout, re.MULTILINE)
    assert record_path, run.stdout
    record = json.loads((tmp_path / record_path.group(1)).read_text(encoding="utf-8"))
    assert record["status"] == "finished"
    assert [stage["name"] for stage in record["stages"]] == [
        "data",
        "graph (HeLLMPretrain)",
        "sequence (SASRecCausal)",
        "training",
        "evaluation",
    ]
    assert all(0 < stage["trainable"] <= stage["parameters"] for stage in record["stages"][1:4])


def result_rows() -> list[tuple[list[str], list[str]]]:
    """Return the cells of every row of docs/results.md that names run records, and their ids."""
    rows = []
    for line in RESULTS.splitlines():
        runs = re.findall(r"\(\.\./reports/runs/([\w.-]+)\.json\)", line)
        if runs and line.startswith("|"):
            rows.append(([cell.strip() for cell in line.strip("|").split("|")], runs))
    return rows


def metrics_of(record: dict[str, Any], of: str) -> dict[str, float]:
    """Return a run's test metrics, or those of the stage that ``of`` names."""
    if "as a stage" not in of:
        assert record["model"] in of
        return record["metrics"]["test"]
    stages = [stage for stage in record["stages"] if stage["metrics"]]
    (stage,) = [s for s in stages if re.search(r"\((\w+)\)", s["name"]).group(1) in of]
    return stage["metrics"]["test"]


def short(value: float) -> str:
    return f"{value:.4f}".lstrip("0")


@pytest.mark.parametrize(("cells", "run_ids"), result_rows())
def test_results_are_those_of_the_records(cells: list[str], run_ids: list[str]) -> None:
    """One run's metrics, or the mean over seeds and the sample standard deviation."""
    paths = [ROOT / "reports" / "runs" / f"{run_id}.json" for run_id in run_ids]
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    assert all(record["status"] == "finished" for record in records)
    seeds = [record["seed"] for record in records]
    assert len(set(seeds)) == len(seeds)
    metrics = [metrics_of(record, cells[0]) for record in records]
    for cell, name in zip(
        cells[1:5], ("recall@10", "recall@20", "ndcg@10", "ndcg@20"), strict=True
    ):
        values = [each[name] for each in metrics]
        spread = f" ± {short(statistics.stdev(values))}" if len(values) > 1 else ""
        assert cell == short(statistics.mean(values)) + spread
    assert cells[5] == ", ".join(map(str, seeds))


def test_there_are_results() -> None:
    assert result_rows()
