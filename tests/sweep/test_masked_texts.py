"""Kind 10: what a sweep stores, logs and prints of an error holds no secret."""

from pathlib import Path
from typing import Any

import pytest
from small_sweep import write_spec

from recbole_llm.cli.main import main
from recbole_llm.sweep.identity import Identity
from recbole_llm.sweep.store import open_store
from recbole_llm.sweep.study import Queue

CANARY = "Canary-7h9Q2x"
ADDRESS = f"postgresql://ann:{CANARY}@db.example/studies"


def files_with_canary(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return [str(path) for path in paths if CANARY.encode() in path.read_bytes()]


@pytest.mark.parametrize("storage", ["sqlite:///studies.db", "journal.log"])
def test_kind10_the_error_of_a_trial(
    work: Path, fakes: Any, capsys: pytest.CaptureFixture[str], storage: str
) -> None:
    def fail(settings: dict[str, Any]) -> float:
        raise RuntimeError(f"{ADDRESS} refused; api_key={CANARY}")

    fakes(fail)
    path = str(write_spec(work))
    assert main(["sweep", path, f"--storage={storage}"]) == 1
    output = "".join(capsys.readouterr())
    assert "error: RuntimeError: postgresql://ann:***@db.example/studies refused" in output
    assert CANARY not in output and not files_with_canary(work)
    main(["report", path])
    assert not files_with_canary(work)


@pytest.mark.parametrize("storage", ["sqlite:///studies.db", "journal.log"])
def test_kind10_the_settings_of_a_study(work: Path, storage: str) -> None:
    identity: Identity = {"settings": {"wandb_project": ADDRESS}}
    for _ in range(2):  # the second time it is compared
        Queue(open_store(storage, 60), "s", identity, [{"x": 1}])
    assert not files_with_canary(work)


def test_kind10_an_error_that_nothing_catches(
    work: Path, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "own.py").write_text(
        "from recbole.model.general_recommender import BPR\n"
        "class Own(BPR):\n"
        "    def calculate_loss(self, interaction):\n"
        f"        raise RuntimeError('{ADDRESS} refused')\n"
    )
    (work / "Own.yaml").write_text("embedding_size: 8\n")
    line = ["--model=own:Own", "--dataset=ml-100k", "--show_progress=false"]
    done = cli(*line, env={"PYTHONPATH": f"{Path(__file__).parents[2]}:{work}"})
    assert done.returncode == 1 and "RuntimeError: postgresql://ann:***@db" in done.stderr
    assert CANARY not in done.stdout + done.stderr and not files_with_canary(work / "runs")
