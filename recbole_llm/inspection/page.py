"""The report of an inspection, as Markdown and as JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from recbole_llm.inspection.figures import draw
from recbole_llm.inspection.findings import Finding, find
from recbole_llm.inspection.modality import inspect_modalities
from recbole_llm.inspection.statistics import statistics
from recbole_llm.inspection.view import View


def inspect_dataset(view: View, folder: Path) -> str:
    """Inspect a data set and write ``inspect.md``, ``inspect.json`` and the figure to a folder.

    Returns:
        The text of ``inspect.md``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stats = statistics(view)
    modalities, about_features = inspect_modalities(view)
    findings = [*find(view), *about_features]
    name = view.config["dataset"]
    figures = draw(view, folder / "inspect")
    content = {
        "dataset": name,
        "statistics": stats,
        "modalities": modalities,
        "findings": [finding._asdict() for finding in findings],
    }
    (folder / "inspect.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    lines = [f"# {name}", "", *_statistics(stats), "", *_modalities(modalities)]
    lines += [*_findings(findings), "", f"![degrees and times]({figures[1].name})"]
    text = "\n".join(lines) + "\n"
    (folder / "inspect.md").write_text(text, encoding="utf-8")
    return text


def _statistics(stats: Mapping[str, Any]) -> list[str]:
    rows = [
        ("users", f"{stats['n_users']:,}"),
        ("items", f"{stats['n_items']:,}"),
        ("interactions", f"{stats['n_interactions']:,}"),
        ("sparsity", f"{stats['sparsity']:.4%}"),
    ]
    for kind in ("user", "item"):
        it = stats[f"{kind}_degree"]
        text = f"{it['min']:,} / {it['median']:g} / {it['mean']:.2f} / {it['max']:,}"
        rows.append((f"interactions by {kind}: min / median / mean / max", text))
    if "time" in stats:
        it = stats["time"]
        text = f"{it['first']:.0f} to {it['last']:.0f}"
        if "days" in it:
            text += f" ({it['first_date']} to {it['last_date']}, {it['days']:,.0f} days)"
        rows.append(("time", text))
    else:
        rows.append(("time", "none loaded"))
    rows.append(("protocol", stats["protocol"]))
    if stats["parts"]:
        rows.append(("training / validation / test", " / ".join(f"{n:,}" for n in stats["parts"])))
    return tabulate(rows, headers=["", ""], tablefmt="github", disable_numparse=True).splitlines()


def _modalities(modalities: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not modalities:
        return []
    rows = []
    for name, it in modalities.items():
        norm = " / ".join(f"{value:.3g}" for value in it.get("norm", [])) or "-"
        cosine = f"{it['mean_cosine']:.3f}" if "mean_cosine" in it else "-"
        counts = [it[key] for key in ("n_with", "n_without", "width", "dtype", "n_duplicates")]
        rows.append((name, *counts, norm, cosine))
    headers = ["modality", "items with", "without", "width", "dtype", "duplicates",
               "norm: min / median / max", "mean cosine"]  # fmt: skip
    return [*tabulate(rows, headers=headers, tablefmt="github").splitlines(), ""]


def _findings(findings: Sequence[Finding]) -> list[str]:
    if not findings:
        return ["Nothing suspicious found."]
    lines = [f"{len(findings)} things to look at:", ""]
    for it in findings:
        examples = f" First: {', '.join(it.examples)}." if it.examples else ""
        lines.append(f"- **{it.key}**: {it.what}.{examples} To do: {it.advice}.")
    return lines
