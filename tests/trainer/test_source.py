"""Which source files a stage's cache key is made of."""

from pathlib import Path

import pytest

import recbole_llm
from recbole_llm.trainer.source import imported_files

PACKAGE = Path(recbole_llm.__file__).parent
TRAINER = "recbole_llm.trainer.trainer"


@pytest.fixture(scope="module")
def names() -> set[str]:
    """Return the files of SASRecCausal and of its trainer, relative to the package."""
    files = imported_files("recbole_llm.model.sasrec_causal", TRAINER)
    return {str(path.relative_to(PACKAGE)) for path in files}


def test_what_the_model_and_the_trainer_import_is_there(names: set[str]) -> None:
    expected = {
        "model/sasrec_causal.py",
        "model/loss.py",
        "data/loader.py",
        "data/history.py",  # imported by the loader
        "trainer/trainer.py",
        "trainer/harness.py",
        "config.py",
    }
    assert expected <= names


def test_other_rooms_and_other_models_are_not_there(names: set[str]) -> None:
    rooms = {name.partition("/")[0] for name in names}
    assert not rooms & {"report", "sweep", "cli", "prepare", "profiles", "quick_start.py"}
    assert {name for name in names if name.startswith("model/")} == {
        "model/loss.py",
        "model/sasrec_causal.py",
    }


def test_imports_in_functions_count_and_those_for_types_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_model.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from recbole_llm.graph import knn\n"
        "def build():\n    from recbole_llm import files\n    import json\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    files = imported_files("own_model")
    names = {path.name for path in files}
    assert "own_model.py" in names and "files.py" in names
    assert "knn.py" not in names
