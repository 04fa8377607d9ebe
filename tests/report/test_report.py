"""Reports from records written by hand: cells, ranks, marks, and published numbers."""

import csv
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from run_records import add

from recbole_llm.cli.main import main
from recbole_llm.report.user_metrics import user_metric
from recbole_llm.report.write import write_report


def numbers(kind: str = "measured") -> dict[tuple[str, str], dict[str, str]]:
    with open("reports/t/tables.csv", encoding="utf-8") as file:
        return {
            (it["row"], it["metric"]): it for it in csv.DictReader(file) if it["source"] == kind
        }


def test_means_ranks_and_improvement_by_hand(spec: Any) -> None:
    add("LightGCN", 1, [0.10, 0.20])
    add("LightGCN", 2, [0.20, 0.20])
    add("BPR", 1, [0.10, 0.10])
    add("BPR", 2, [0.10, 0.10])
    add("Ours", 1, [0.30, 0.16])
    add("Ours", 2, [0.30, 0.16])
    write_report(spec())
    found = numbers()
    lightgcn = found["LightGCN", "recall@10"]
    assert float(lightgcn["mean"]) == pytest.approx(0.15)
    assert float(lightgcn["std"]) == pytest.approx(0.005**0.5)
    assert lightgcn["n_seeds"] == "2" and lightgcn["trials"] == "4 tpe"
    ranks = {key: it["rank"] for key, it in found.items()}
    assert [ranks[row, "recall@10"] for row in ("Ours", "LightGCN", "BPR")] == ["1", "2", ""]
    assert [ranks[row, "recall@20"] for row in ("LightGCN", "Ours", "BPR")] == ["1", "2", ""]
    text = Path("reports/t/report.md").read_text()
    assert "| Ours | **.3000 ± .0000** | <u>.1600 ± .0000</u> | 2 | 4 tpe |" in text
    assert "| improvement of Ours | +100.0 % | \u221220.0 % |" in text
    assert "Not tested for significance" in text and "BPR on beauty, LightGCN on beauty" in text


def test_missing_cells_and_seeds_are_said(spec: Any) -> None:
    add("LightGCN", 1, [0.1, 0.2])
    write_report(spec())
    text = Path("reports/t/report.md").read_text()
    assert "| BPR | no run | no run | 0 | - |" in text
    assert "- LightGCN on beauty: no run with seed 2." in text
    assert "| LightGCN | .1000 | .2000 | 1 |" in text, "nothing to rank, no spread of one seed"
    latex = Path("reports/t/tables.tex").read_text()
    assert r"BPR & -- & -- \\" in latex


def test_no_run_at_all(spec: Any) -> None:
    write_report(spec())
    assert (
        "There is no run yet. Make them with: recbole_llm sweep"
        in Path("reports/t/report.md").read_text()
    )


def test_a_difference_of_many_users_is_marked_and_of_one_is_not(spec: Any) -> None:
    rng = np.random.default_rng(1)
    better, worse = [[0]] * 40, [[0] if rng.random() < 0.3 else [15] for _ in range(40)]
    worse[0] = []  # the only user of a difference in recall@20
    for seed in (1, 2):
        add("Ours", seed, hits=better)
        add("LightGCN", seed, hits=worse)
        add("BPR", seed, hits=worse)
    write_report(spec())
    found = numbers()
    assert found["Ours", "recall@10"]["significant"] == "1"
    assert found["Ours", "recall@20"]["significant"] == "0", "one user of 40"
    with open("reports/t/significance.csv", encoding="utf-8") as file:
        tests = list(csv.DictReader(file))
    assert [it["against"] for it in tests] == ["LightGCN", "BPR"] * 2
    from scipy import stats

    lists = [next(Path("runs").glob(f"*{m}*/topk-test.jsonl")) for m in ("SRGFormer", "LightGCN")]
    mine, other = (user_metric(path, "recall@10") or {} for path in lists)
    pairs = np.array([(mine[user], other[user]) for user in mine])
    # the smaller two of four equal tests: times 4, then not below
    assert float(tests[0]["p_t_holm"]) == pytest.approx(4 * stats.ttest_rel(*pairs.T).pvalue)
    alone = stats.ttest_1samp([1.0] + [0.0] * 39, 0.0).pvalue
    assert float(tests[2]["p_t_holm"]) == pytest.approx(2 * alone)
    assert tests[0]["n_users"] == "40"
    assert "**1.0000 ± .0000\\***" in Path("reports/t/report.md").read_text()
    assert "$^{*}$" in Path("reports/t/tables.tex").read_text()


def test_lists_of_other_splits_or_users_are_not_compared(spec: Any) -> None:
    add("Ours", 1, hits=[[0]] * 9)
    add("LightGCN", 1, hits=[[15]] * 9, data={"files": {"a": "1"}, "split": "z"})
    add("BPR", 1, hits=[[15]] * 8)
    write_report(spec())
    text = Path("reports/t/report.md").read_text()
    assert "Ours against BPR on beauty, LightGCN on beauty" in text
    assert "rows of the same seed were split differently" in text
    assert not Path("reports/t/significance.csv").exists()


def test_leaky_rows_carry_the_mark_and_are_not_ranked(spec: Any) -> None:
    add("LightGCN", 1, [0.1, 0.1])
    add("BPR", 1, [0.2, 0.2])
    add("Ours", 1, [0.9, 0.9], leaky=True)
    write_report(spec())
    text = Path("reports/t/report.md").read_text()
    assert "| Ours LEAKY | .9000 | .9000 |" in text and "| BPR | **.2000** |" in text
    assert "improvement of" not in text and "LEAKY: the row's user profiles" in text
    assert "Ours LEAKY" in Path("reports/t/tables.tex").read_text()
    page = Path("reports/t/index.html").read_text()
    assert '<tr class="leaky"><td>Ours LEAKY</td>' in page


def test_rows_with_image_words_say_so_and_are_ranked(spec: Any) -> None:
    words = {"files": {"a": "1"}, "split": "s"}
    words["user_profiles"] = {"p": {"leaky": False, "image_words": True}}
    add("BPR", 1, [0.2, 0.2])
    add("Ours", 1, [0.9, 0.9], data=words)
    write_report(spec())
    text = Path("reports/t/report.md").read_text()
    assert "| Ours (image words) | **.9000** | **.9000** |" in text
    assert "(image words): in the row's user profiles, images are described by" in text


@pytest.mark.parametrize(
    ("over", "what"),
    [
        ({"leaky": True}, "leaky and clean user profiles"),
        ({"data": {"files": {"a": "2"}, "split": "s"}}, "data files"),
        ({"protocol": "random811"}, "protocols"),
    ],
)
def test_what_does_not_compare_is_not_averaged(over: dict[str, Any], what: str, spec: Any) -> None:
    add("BPR", 1, [0.2, 0.2])
    add("BPR", 2, [0.4, 0.4], **over)
    write_report(spec())
    text = Path("reports/t/report.md").read_text()
    assert f"BPR on beauty: not averaged: different {what}" in text
    assert "| BPR" in text and ".3000" not in text


def test_differing_rows_and_older_runs_are_said(spec: Any) -> None:
    add("BPR", 1, [0.2, 0.2])
    add("BPR", 1, [0.4, 0.4], started="2027-01-01")
    add("LightGCN", 1, [0.1, 0.1], environment={"git_commit": "d"}, protocol="random811")
    write_report(spec())
    text = Path("reports/t/report.md").read_text()
    assert "BPR on beauty: 1 older runs of its cell are left out." in text and ".4000" in text
    assert "beauty: the rows differ in code version (2 of them)." in text
    assert "beauty: the rows differ in protocol (2 of them)." in text


def test_trials_failed_runs_and_other_sweeps_do_not_count(spec: Any) -> None:
    origin = {"sweep": "t", "profile": "paper", "row": "BPR", "kind": "final", "point": {}}
    add("BPR", 1, [0.2, 0.2], status="failed")
    add("BPR", 1, [0.2, 0.2], origin={**origin, "kind": "trial"})
    add("BPR", 1, [0.2, 0.2], origin={**origin, "sweep": "u"})
    half = Path("runs/half/record.json")
    half.parent.mkdir()
    half.write_text('{"id": "x", "mod')
    write_report(spec())
    text = Path("reports/t/report.md").read_text()
    assert (
        "| BPR | no run" in text and "not read: runs/half/record.json is not a run record" in text
    )


def test_a_run_by_itself_joins_the_row_whose_settings_it_has(spec: Any) -> None:
    config = {"seed": 1, "valid_metric": "Recall@20", "protocol": "loo", "embedding_size": 32}
    add("BPR", 1, [0.2, 0.2], origin={}, config=config)
    add("LightGCN", 1, [0.3, 0.3], origin={}, config={**config, "embedding_size": 16})
    write_report(spec(settings={"embedding_size": 32}))
    assert numbers()["BPR", "recall@10"]["mean"] == "0.2"
    assert numbers()["LightGCN", "recall@10"]["mean"] == ""


PUBLISHED = {
    "paper": "A paper",
    "tables": {
        "table1": {
            "where": "Table I, page 3",
            "columns": ["recall@10", "recall@20"],
            "rows": {"BPR": {"beauty": [0.7, 0.8]}, "Theirs": {"beauty": [0.5, None]}},
        }
    },
}


def test_published_numbers_stand_apart(spec: Any, work: Path) -> None:
    path = spec(published="own/table1")
    folder = work / "benchmarks" / "published"
    folder.mkdir()
    (folder / "own.yaml").write_text(yaml.safe_dump(PUBLISHED))
    add("BPR", 1, [0.2, 0.2])
    add("LightGCN", 1, [0.1, 0.1])
    write_report(path)
    text = Path("reports/t/report.md").read_text()
    assert "| *BPR (published)* | *.7000* | *.8000* |" in text
    assert "| *Theirs (published)* | *.5000* |  |" in text
    assert "Published: A paper, Table I, page 3." in text
    assert "| BPR | **.2000** |" in text, "published numbers are not ranked among the measured"
    assert numbers("published")["BPR", "recall@20"]["mean"] == "0.8"
    assert '<tr class="published">' in Path("reports/t/index.html").read_text()
    assert r"\textit{.7000}" in Path("reports/t/tables.tex").read_text()
    PUBLISHED["tables"]["table1"]["rows"]["BPR"]["beauty"] = [1]  # type: ignore[index]
    (folder / "own.yaml").write_text(yaml.safe_dump(PUBLISHED))
    with pytest.raises(ValueError, match="table1, BPR, beauty: 1 values for 2 columns"):
        write_report(path)
    with pytest.raises(ValueError, match="has no table 'table9'"):
        write_report(spec(published="own/table9"))


def test_latex_is_escaped_and_well_formed(spec: Any) -> None:
    add("BPR", 1, [0.2, 0.2])
    write_report(spec())
    text = Path("reports/t/tables.tex").read_text()
    assert r"\caption{A\_title \& 100 \%}" in text
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert text.count("{") == text.count("}")
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    assert len(body) == 3
    assert all(line.endswith(r"\\") and line.count(" & ") == 2 for line in body)
    assert text.splitlines()[0] == r"% Needs \usepackage{booktabs} in the preamble."
    assert r"\label{tab:t-1}" in text
    assert not re.search(r"(?<!\\)[%#]", text.partition("\n")[2])


def test_bars_and_cost(spec: Any) -> None:
    from recbole_llm.record import Stage

    add("BPR", 1, [0.2, 0.2], stages=[Stage("training", 2.5, 3 * 2**20, 10, 40)])
    add("LightGCN", 1, [0.3, 0.2])
    figures = [{"kind": "bars", "metrics": ["recall@20"], "part": "test"}]
    files = write_report(spec(figures=figures, tables=[{"kind": "cost"}])).files
    assert "figure-1.pdf" in {it.name for it in files}
    text = Path("reports/t/report.md").read_text()
    assert "| beauty | BPR | training | 2.5 | 3 | 10 | 25.00% | cpu |" in text
    assert "| beauty | Ours | no run |" in text


def test_published_costs_are_shown_as_printed(spec: Any, work: Path) -> None:
    folder = work / "benchmarks" / "published"
    folder.mkdir(parents=True)
    table = {"where": "Table 9", "columns": ["time"], "rows": {"X": {"beauty": ["2 h 57 min"]}}}
    (folder / "own.yaml").write_text(yaml.safe_dump({"paper": "P", "tables": {"t": table}}))
    write_report(spec(tables=[{"kind": "cost"}], published="own/t"))
    text = Path("reports/t/report.md").read_text()
    assert "## Published: P, Table 9." in text and "| beauty | X | 2 h 57 min |" in text


def test_the_profile_with_runs_is_taken(spec: Any) -> None:
    small = {"profiles": {"small": {"seeds": [1]}, "tiny": {"seeds": [1]}}}
    run = add("BPR", 1, [0.2, 0.2])
    for profile in ("small", "tiny"):
        add("BPR", 1, [0.2, 0.2], origin={**run.origin, "profile": profile})
    shutil.rmtree(run.folder)
    assert main(["report", str(spec(**small))]) == 0
    text = Path("reports/t/report.md").read_text()
    assert "Profile: small" in text and "There are also runs of profile tiny (--profile)" in text


def test_the_lists_of_a_real_run_give_its_metrics(runner: Any) -> None:
    record = runner("BPR", save_topk=20)
    for metric, value in record.metrics["test"].items():
        users = user_metric(Path(record.files["topk_test"]), metric)
        assert users is not None
        assert np.mean(list(users.values())) == pytest.approx(value, abs=1e-6)
