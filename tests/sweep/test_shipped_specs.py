"""Every shipped spec: its settings are valid for its models, and its published table exists."""

import re
from pathlib import Path

import pytest

from recbole_llm.registry import MODELS, recbole_models
from recbole_llm.report.published import published_folder, read_published
from recbole_llm.sweep.settings import check_settings
from recbole_llm.sweep.spec import load_spec
from recbole_llm.yaml_io import read_yaml

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SPECS = [
    path
    for folder in ("hellm", "mllmrec", "galrec", "srgformer")
    for path in sorted((BENCHMARKS / folder).glob("*.yaml"))
    if re.match(r"(table|fig)\d|main|ablations|alpha|gamma", path.name)
]


def test_every_table_and_figure_has_its_spec() -> None:
    names = {f"{path.parent.name}/{path.stem}" for path in SPECS}
    for paper, wanted in {
        "hellm": "table2 table3 table4 fig3 fig4",
        "mllmrec": "table2 table3 table4 fig3 fig4 fig5 fig6",
        "galrec": "table1 table3 table4 table5 fig4 fig5",
        "srgformer": "main ablations alpha-beta gamma",
    }.items():
        assert {f"{paper}/{name}" for name in wanted.split()} <= names


@pytest.mark.parametrize("profile", ["paper", "small"])
@pytest.mark.parametrize("path", SPECS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_settings_are_those_of_the_models(
    path: Path, profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(BENCHMARKS.parent)
    spec = load_spec(path, profile)
    assert {row.model for row in spec.rows} <= {*MODELS, *recbole_models()}
    check_settings(spec, {})


def test_tables_that_compare_tuned_models_have_the_standing_baselines() -> None:
    """Each profile too, with the trials that the others have; Pop has nothing to tune."""
    n_compared = 0
    for path in SPECS:
        for profile in load_spec(path).profiles:
            spec = load_spec(path, profile)
            if spec.search is None or not spec.tables:
                continue  # variants of one model
            n_compared += 1
            rows = {row.model: row for row in spec.rows}
            assert {"Pop", "ItemKNN", "EASE"} <= set(rows), f"{path} ({profile})"
            searched = {name: {entry.name for entry in row.space} for name, row in rows.items()}
            assert searched["ItemKNN"] == {"k", "shrink"}
            assert searched["EASE"] == {"reg_weight"}
            # Where there is a sequence, what its last item alone says is a row too.
            shortcut = [row for row in spec.rows if row.settings.get("MAX_ITEM_LIST_LENGTH") == 1]
            assert len(shortcut) == ("SASRecCausal" in rows)
            assert rows["ItemKNN"].n_trials is rows["EASE"].n_trials is None
    assert n_compared >= 8


@pytest.mark.parametrize("path", SPECS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_published_tables_are_there_and_name_the_rows(path: Path) -> None:
    spec = load_spec(path)
    published = read_published(spec)
    if published is None:
        return
    assert "Sec. " in published.source
    shared = {row.published or row.label for row in spec.rows} & set(published.rows)
    assert len(shared) >= min(2, len(spec.rows)), "rows are named as the paper names them"
    assert {dataset for by_dataset in published.rows.values() for dataset in by_dataset} >= set(
        spec.datasets
    )


def test_numbers_typed_from_the_papers() -> None:
    def cell(file: str, table: str, row: str, dataset: str, metric: str) -> float:
        content = read_yaml(published_folder(load_spec(SPECS[0])) / f"{file}.yaml")["tables"][table]
        return content["rows"][row][dataset][content["columns"].index(metric)]

    assert cell("hellm", "table2", "HeLLM", "toys", "ndcg@20") == 0.0488
    assert cell("hellm", "table2", "LightGCN", "beauty", "recall@20") == 0.0669
    assert cell("hellm", "table4", "HeLLM w/o-Seq_ID", "sports", "ndcg@20") == 0.0232
    assert cell("mllmrec", "table2", "MLLMRec", "baby", "recall@20") == 0.1814
    assert cell("mllmrec", "table3", "w/o T", "clothing", "ndcg@20") == 0.0442
    assert cell("mllmrec", "table4", "Qwen2.5vl-7b", "sports", "ndcg@10") == 0.0614
    assert cell("galrec", "table1", "GAL(Text)", "yelp", "hit@5") == 0.0361
    assert cell("galrec", "table3", "w/o GAL(LGCN)", "beauty", "ndcg@10") == 0.0252
    assert cell("galrec", "table5", "3-hop", "toys", "ndcg@10") == 0.0233
