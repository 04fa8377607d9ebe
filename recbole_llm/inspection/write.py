"""``recbole_llm inspect``: the report of a dataset, as Markdown, JSON and a figure."""

import json
from pathlib import Path

from recbole_llm.inspection.figures import draw_figure
from recbole_llm.inspection.interactions import check_interactions
from recbole_llm.inspection.markdown import to_markdown
from recbole_llm.inspection.modality import inspect_modalities
from recbole_llm.inspection.parts import check_parts
from recbole_llm.inspection.statistics import statistics
from recbole_llm.inspection.times import check_times
from recbole_llm.inspection.view import View


def inspect_dataset(view: View, folder: Path) -> str:
    """Inspect a dataset and write ``inspect.md``, ``inspect.json`` and the figure to a folder.

    Returns:
        The text of ``inspect.md``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    modalities, feature_findings = inspect_modalities(view)
    findings = [
        *check_interactions(view),
        *check_times(view),
        *check_parts(view),
        *feature_findings,
    ]
    content = {
        "dataset": view.config["dataset"],
        "statistics": statistics(view),
        "modalities": modalities,
        "findings": [finding._asdict() for finding in findings],
    }
    _, picture = draw_figure(view, folder / "inspect")
    text = to_markdown(content, picture.name)
    (folder / "inspect.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / "inspect.md").write_text(text, encoding="utf-8")
    return text
