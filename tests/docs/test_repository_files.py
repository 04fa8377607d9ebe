"""CITATION.cff names this version, and the issue templates are forms that a forge can show."""

from pathlib import Path

import pytest
import yaml
from doc_blocks import ROOT

from recbole_llm.version import __version__

FOLDER = ROOT / ".github" / "ISSUE_TEMPLATE"
TEMPLATES = [path for path in sorted(FOLDER.glob("*.yml")) if path.name != "config.yml"]
KINDS = {"checkboxes", "dropdown", "input", "markdown", "textarea"}


def test_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    required = {"cff-version", "message", "title", "authors"}
    assert required <= set(citation)
    assert citation["version"] == __version__


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_issue_template_is_a_form(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(form)
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids)
    for field in form["body"]:
        assert field["type"] in KINDS
        assert field["attributes"]["label"]


def test_there_are_templates() -> None:
    assert len(TEMPLATES) == 3
