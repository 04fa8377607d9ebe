"""Which source files a stage's cache key is made of."""

import ast
from pathlib import Path

import pytest

import recbole_llm
from recbole_llm.trainer.source import imported_files

PACKAGE = Path(recbole_llm.__file__).parent
TRAINING = "recbole_llm.trainer.fit"


@pytest.fixture(scope="module")
def names() -> set[str]:
    """Return the files of SASRecCausal and of its training, relative to the package."""
    return names_of("recbole_llm.model.sasrec_causal")


def names_of(model: str) -> set[str]:
    return {str(path.relative_to(PACKAGE)) for path in imported_files(model, TRAINING)}


def test_what_the_model_and_the_trainer_import_is_there(names: set[str]) -> None:
    expected = {
        "model/sasrec_causal.py",
        "model/stage.py",  # what it exports to a later stage
        "model/loss.py",
        "data/loader.py",
        "data/history.py",  # imported by the loader
        "data/loading.py",
        "data/dataset.py",
        "splitting/frozen.py",
        "trainer/fit.py",
        "trainer/trainer.py",
        "trainer/harness.py",
        "trainer/ranking.py",
        "config.py",
        "compat.py",  # what it repairs in RecBole changes numbers
    }
    assert expected <= names


def test_other_rooms_and_other_models_are_not_there(names: set[str]) -> None:
    rooms = {name.partition("/")[0] for name in names}
    assert not rooms & {"report", "sweep", "cli", "prepare", "profiles", "quick_start.py"}
    assert {name for name in names if name.startswith("model/")} == {
        "model/base.py",  # the hooks, which the training calls
        "model/loss.py",
        "model/sasrec_causal.py",
        "model/stage.py",
    }


def test_each_model_brings_its_own_parts() -> None:
    lattice = names_of("recbole_llm.model.lattice")
    assert {"model/modality_graph.py", "graph/refine.py"} <= lattice
    galrec = names_of("recbole_llm.model.galrec.galrec")
    assert {"model/galrec/contrast.py", "llm/backbone.py"} <= galrec
    assert "model/modality_graph.py" not in galrec and "llm/backbone.py" not in lattice


def test_init_files_that_are_left_out_hold_a_docstring_only() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        name = ".".join([PACKAGE.name, *path.relative_to(PACKAGE).parts[:-1]])
        body = ast.parse(path.read_text(encoding="utf-8")).body
        if path.parent != PACKAGE and path not in imported_files(name.removesuffix(".")):
            assert len(body) == 1 and isinstance(body[0], ast.Expr), name


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


def test_a_users_package_counts_with_its_helpers_and_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "own_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('nothing is imported')\n")
    (folder / "model.py").write_text("from . import layers\nfrom .losses import bpr\n")
    for name in ("layers", "losses", "unused"):
        (folder / f"{name}.py").write_text("import numpy\nimport recbole.utils\n")
    monkeypatch.syspath_prepend(tmp_path)
    files = [path.relative_to(tmp_path) for path in imported_files("own_package.model")]
    assert [path.as_posix() for path in files] == [
        "own_package/__init__.py",
        "own_package/layers.py",
        "own_package/losses.py",
        "own_package/model.py",
    ]
