"""Kind 6, output: a label or title of any text is shown as it is, in every format of a report."""

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from run_records import add

from recbole_llm.plotting import panels, plain_text
from recbole_llm.report.csv_files import to_csv
from recbole_llm.report.latex_text import escape
from recbole_llm.report.markdown_text import inline, sentence
from recbole_llm.report.write import write_report

LABELS = [
    "[1] BPR",
    "*Star BPR",
    "[x](javascript:alert(1))",
    "Δ μ ≥ ≤ → ↓ × ± ∈ α…ω Ω ά",
    "深度学习 😀 Яблоко ę đ",
    "é ü ş ő Å ß ø “x” ‘y’ – — … € ° ™ ½ ﬁ \u200b",
    'a|b `c` <script>alert("x")</script> &amp; &',
    "__init__ *x* ~~y~~ $a$ \\textbf{z} {} ^ % #1",
    "two\nlines\n\n# and a heading\ttab\x00",
    "--lr '' ?` !` ,, << >>",
]


@pytest.fixture
def labelled(spec: Any) -> Path:
    """Write the report of rows with every label; returns its folder."""
    rows = [{"label": label, "model": "BPR"} for label in LABELS]
    for label in LABELS:
        add(label, 1, [0.2, 0.1], model="BPR")
    title = "[t] * " + " ".join(LABELS)
    write_report(spec(rows=rows, title=title, note=title, seeds=[1], compare=LABELS[0]))
    return Path("reports/t")


#: Rules that read an argument as those of booktabs do, for installations that lack it.
RULES = r"""
\makeatletter
\def\toprule{\noalign{\ifnum0=`}\fi\@ifnextchar[{\@rule}{\@rule[1pt]}}
\def\@rule[#1]{\hrule height #1\ifnum0=`{\fi}}
\let\midrule\toprule \let\bottomrule\toprule
\def\cmidrule(#1)#2{\cline{#2}}
\makeatother
"""


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(labelled: Path) -> None:
    table = (labelled / "tables.tex").read_text(encoding="utf-8")
    document = [
        r"\documentclass{article}",
        r"\usepackage{booktabs}" if _has_booktabs() else RULES,
        r"\begin{document}",
        table,
        r"\end{document}",
    ]
    (labelled / "t.tex").write_text("\n".join(document), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=labelled, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (labelled / "t.pdf").stat().st_size > 0


def _has_booktabs() -> bool:
    done = subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False)
    return done.returncode == 0


def test_latex_of_a_first_cell_is_not_an_argument_of_the_row_above(labelled: Path) -> None:
    lines = (labelled / "tables.tex").read_text(encoding="utf-8").splitlines()
    assert any(line.startswith("{}[1] BPR & ") for line in lines)
    assert any(line.startswith("{}*Star BPR & ") for line in lines)
    assert not any(line.startswith(("[", "*")) for line in lines)
    assert "U+6DF1 is 深" in lines[0] and lines[0].startswith("% ")
    assert all(line.isascii() for line in lines[1:])


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("Δ ≥ → α ε Ο", r"$\Delta$ $\geq$ $\rightarrow$ $\alpha$ $\varepsilon$ $\mathrm{O}$"),
        ("é ü ş ő ł ß", r"\'{e} \"{u} \c{s} \H{o} \l{} \ss{}"),
        ("深", "U+6DF1"),
        ("--x|", r"-{}-x$|$"),
        ("a\n\nb", "a b"),
        ("±", r"$\pm$"),
    ],
)
def test_latex_of_a_character(text: str, latex: str) -> None:
    assert escape(text) == latex


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("a|b `c`", r"a\|b \`c\`"),
        ("<script>x</script>", "&lt;script&gt;x&lt;/script&gt;"),
        ("[x](javascript:y)", r"\[x\](javascript:y)"),
        ("a\n\n# b", r"a \# b"),
        ("K_c __x__ *y*", r"K_c \_\_x\_\_ \*y\*"),
        ("&lt; & R&D", "&amp;lt; & R&D"),
    ],
)
def test_markdown_of_a_text(text: str, markdown: str) -> None:
    assert inline(text) == markdown


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("run `recbole_llm reason` <b>", "run `recbole_llm reason` &lt;b&gt;"),
        ("`<img src=x>`", r"\`&lt;img src=x&gt;\`"),
        ("- x", r"\- x"),
        ("1. x", r"1\. x"),
        ("=== x", r"\=== x"),
        ("1.5 times", r"1\.5 times"),
    ],
)
def test_markdown_of_a_line(text: str, markdown: str) -> None:
    assert sentence(text) == markdown


def test_markdown_holds_one_row_a_label_and_no_html(labelled: Path) -> None:
    text = (labelled / "report.md").read_text(encoding="utf-8")
    assert "<script" not in text and "](javascript" not in text.replace(r"\](javascript", "")
    metrics, _, others = text.partition("\n## Data\n")
    settings = others.partition("\n## Settings of the spec\n")[2]
    for part, n_rows, n_bars in ((metrics, len(LABELS) + 3, 6), (settings, len(LABELS) + 2, 3)):
        rows = [line for line in part.splitlines() if line.startswith("|")]
        assert len(rows) == n_rows
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {n_bars}
    assert set(re.findall(r"<[^>]*>", text)) <= {"<u>", "</u>"}


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "=cmd|'/C x'!A0"]
)
def test_a_text_is_no_formula_of_a_spreadsheet(cell: str, spec: Any) -> None:
    assert next(csv.reader(io.StringIO(to_csv([[cell]]), newline="")))[0] == f"'{cell}"
    add(cell, 1, [0.2, 0.1], model="BPR")
    write_report(spec(rows=[{"label": cell, "model": "BPR"}], compare=None, seeds=[1]))
    with open("reports/t/tables.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["row"] == f"'{cell}" and float(rows[0]["mean"]) == 0.2


def test_numbers_and_a_lone_hyphen_stay_what_they_are() -> None:
    assert to_csv([[-1, -0.5, "-", "x-1", ""]]) == "-1,-0.5,-,x-1,\n"


@pytest.mark.parametrize("kind", ["bars", "line", "heatmap"])
def test_a_figure_shows_labels_that_look_like_formulas(kind: str, spec: Any) -> None:
    labels = ["$\\frac{$", "_hidden", "a $x$ b"]
    keys = {"bars": [], "line": ["epochs"], "heatmap": ["epochs", "n_layers"]}[kind]
    points = {key: 1 for key in keys}
    for label in labels:
        add(label, 1, [0.2, 0.1], model="LightGCN", point=points)
    figure = {"kind": kind, "title": labels[0], **dict(zip("xy", keys, strict=False))}
    rows = [{"label": label, "model": "LightGCN"} for label in labels]
    grid = {"grid": {key: [1] for key in keys}} if keys else {}
    files = write_report(
        spec(rows=rows, figures=[figure], compare=None, seeds=[1], tables=[], **grid)
    ).files
    assert {"figure-1.pdf", "figure-1.png"} <= {path.name for path in files}


def test_a_legend_leaves_no_label_out() -> None:
    _, axes = panels(1, 1)
    axes[0, 0].plot([1], label=plain_text("_hidden"))
    assert [text.get_text() for text in axes[0, 0].legend().get_texts()] == [" _hidden"]
