"""The notebooks run from top to bottom, and what is committed of them is small and whole."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from doc_blocks import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def outputs(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [output for cell in cells for output in cell.get("outputs", [])]


def test_there_are_six_notebooks() -> None:
    assert len(NOTEBOOKS) == 6


@by_name
def test_committed_outputs_are_whole_and_small(path: Path) -> None:
    """They are there, without an error, and without a folder of the machine that made them."""
    assert path.stat().st_size < 200_000
    assert outputs(path)
    assert not [each for each in outputs(path) if each["output_type"] == "error"]
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(tmp|home|root|work|usr)/|site-packages", text)


@pytest.mark.slow
@pytest.mark.llm
@by_name
def test_notebook_runs(path: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(work / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(work)}}
    client.NotebookClient(notebook, timeout=600, resources=resources).execute()
