"""The records of ``reports/``: small, and those with lists are verified where their data exists."""

from pathlib import Path

import pytest
import recbole

from recbole_llm.record import RunRecord
from recbole_llm.runs.verify import verify_run

REPORTS = Path(__file__).parents[2] / "reports"
LISTS = ".topk-test.jsonl.gz"
RECORDS = sorted(
    path.with_name(path.name.removesuffix(LISTS) + ".json") for path in REPORTS.rglob(f"*{LISTS}")
)


def test_reports_are_small() -> None:
    assert sum(path.stat().st_size for path in REPORTS.rglob("*")) < 25e6


def test_every_committed_record_is_read() -> None:
    for path in [*REPORTS.glob("runs/*.json"), *REPORTS.glob("*/records/*.json")]:
        assert RunRecord.load(path).id == path.stem


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_committed_record_is_verified(path: Path) -> None:
    data_path = REPORTS.parent / "dataset"
    name = RunRecord.load(path).dataset
    shipped = Path(recbole.__file__).parent / "dataset_example" / name
    if not (data_path / name).is_dir() and not shipped.is_dir():
        pytest.skip(f"the data of {name} is not in {data_path}")
    report = verify_run(path, str(data_path))
    assert report.agrees, report.text
