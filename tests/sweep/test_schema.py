"""The JSON schema and the list of keys for users are those of the models."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recbole_llm.sweep import schema
from recbole_llm.sweep.sampler import PRUNERS, SAMPLERS
from recbole_llm.sweep.schema import SpecFile, spec_schema
from recbole_llm.sweep.space_entry import Choice, FloatRange, IntRange
from recbole_llm.yaml_io import read_yaml

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
LINE = "# yaml-language-server: $schema=../spec.schema.json"


def test_the_committed_schema_is_that_of_the_models() -> None:
    committed = json.loads((BENCHMARKS / "spec.schema.json").read_text(encoding="utf-8"))
    assert committed == spec_schema(), "run `make schema`"
    assert committed["required"] == ["datasets"]
    search = committed["$defs"]["Search"]["properties"]
    assert search["sampler"]["enum"] == list(SAMPLERS)
    assert search["pruner"]["enum"] == list(PRUNERS)


def test_shipped_specs_name_the_schema() -> None:
    specs = [path for path in BENCHMARKS.glob("*/*.yaml") if "datasets" in read_yaml(path)]
    assert len(specs) > 20
    for path in specs:
        assert path.read_text(encoding="utf-8").startswith(LINE), path


def rows_of_the_readme() -> dict[str, str]:
    """Return the table of keys: the names in backticks of the first column, and the meaning."""
    rows = {}
    for line in (BENCHMARKS / "README.md").read_text(encoding="utf-8").splitlines():
        cells = line.split(" | ")
        if len(cells) == 2 and cells[0].startswith("| `"):
            rows |= {key: cells[1] for key in re.findall(r"`(\w+)`", cells[0])}
    return rows


def test_the_readme_lists_every_key() -> None:
    rows = rows_of_the_readme()
    assert set(rows) == set(SpecFile.model_fields)
    inner: dict[str, list[Any]] = {
        "rows": [schema.RowEntry],
        "space": [FloatRange, IntRange, Choice],
        "search": [schema.Search],
        "tables": [schema.MetricsTable, schema.CostTable],
        "figures": [
            schema.LineFigure,
            schema.HeatmapFigure,
            schema.BarsFigure,
            schema.EmbeddingsFigure,
        ],
    }
    for key, models in inner.items():
        fields = {f.alias or name for model in models for name, f in model.model_fields.items()}
        listed = set(re.findall(r"`(\w+)`", rows[key]))
        assert fields - {"kind"} == listed - {"kind"}, key
    for name in (*SAMPLERS, *PRUNERS):
        assert re.search(rf"\b{name}\b", rows["search"]), name


@pytest.mark.parametrize("module", ["spec", "schema", "sampler"])
def test_specs_are_read_without_optuna(module: str) -> None:
    code = f"import sys, recbole_llm.sweep.{module}; print('optuna' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
