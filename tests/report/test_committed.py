"""The committed reports are what the code makes of their committed records."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from recbole_llm.report.front import write_front
from recbole_llm.report.write import write_report

ROOT = Path(__file__).resolve().parents[2]
_EMBEDDED = re.compile(rb"data:image/png;base64,[^\"]*")


def compare(written: Path, committed: Path) -> None:
    """Compare a file's bytes; pictures, which depend on matplotlib's version, by their points."""
    if written.suffix == ".png":
        found, expected = imread(written), imread(committed)
        assert found.shape == expected.shape
        assert np.abs(found - expected).mean() < 0.02, f"{committed} shows something else"
    elif written.suffix != ".pdf":
        texts = [_EMBEDDED.sub(b"", path.read_bytes()) for path in (written, committed)]
        assert texts[0] == texts[1], f"{committed} is out of date: run `make reports`"


@pytest.mark.parametrize(
    ("name", "spec"), [("mllmrec-table2", "mllmrec/table2"), ("hellm-fig4", "hellm/fig4")]
)
def test_a_report_is_made_again(
    name: str, spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    committed = ROOT / "reports" / name
    shutil.copytree(committed, tmp_path / name)
    report = write_report(f"benchmarks/{spec}.yaml", "small", ["reports/runs"], tmp_path)
    files = [path for path in report.files if path.parent == tmp_path / name]
    assert len(files) > 8
    for path in files:
        compare(path, committed / path.name)
    names = {path.name for path in (tmp_path / name).iterdir()}
    assert names == {path.name for path in committed.iterdir()}


def test_the_front_page_is_made_again(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "reports", tmp_path / "reports")
    page = write_front(tmp_path / "reports")
    assert page is not None
    compare(page, ROOT / "reports" / "index.html")
    for picture in (tmp_path / "reports" / "front").glob("*.png"):
        compare(picture, ROOT / "reports" / "front" / picture.name)


def test_links_of_pages_lead_to_files() -> None:
    for page in sorted(ROOT.glob("reports/*/index.html")) + [ROOT / "reports" / "index.html"]:
        links = re.findall(r'href="([^"#][^"]*)"', page.read_text(encoding="utf-8"))
        missing = [link for link in links if not (page.parent / link).is_file()]
        assert links and not missing, f"{page}: {missing[:5]}"
