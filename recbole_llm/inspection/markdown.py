"""The report of an inspection as Markdown, from the content of its JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

_MODALITY_HEADS = [
    "modality",
    "items with",
    "without",
    "width",
    "dtype",
    "duplicates",
    "norm: min / median / max",
    "mean cosine",
]


def to_markdown(content: Mapping[str, Any], picture: str) -> str:
    """Return the report.

    Args:
        content: ``dataset``, ``statistics``, ``modalities`` and ``findings``.
        picture: name of the figure's PNG.
    """
    lines = [f"# {content['dataset']}", "", *_statistics(content["statistics"]), ""]
    lines += [*_modalities(content["modalities"]), *_findings(content["findings"])]
    lines += ["", f"![degrees and times]({picture})"]
    return "\n".join(lines) + "\n"


def _statistics(stats: Mapping[str, Any]) -> list[str]:
    rows = [
        ("users", f"{stats['n_users']:,}"),
        ("items", f"{stats['n_items']:,}"),
        ("interactions", f"{stats['n_interactions']:,}"),
        ("sparsity", f"{stats['sparsity']:.4%}"),
    ]
    for kind in ("user", "item"):
        degree = stats[f"{kind}_degree"]
        text = f"{degree['min']:,} / {degree['median']:g} / {degree['mean']:.2f} / "
        rows.append(
            (f"interactions by {kind}: min / median / mean / max", f"{text}{degree['max']:,}")
        )
    rows.append(("time", _time(stats["time"]) if "time" in stats else "none loaded"))
    rows.append(("protocol", stats["protocol"]))
    if stats["parts"]:
        rows.append(("training / validation / test", " / ".join(f"{n:,}" for n in stats["parts"])))
    return tabulate(rows, headers=["", ""], tablefmt="github", disable_numparse=True).splitlines()


def _time(time: Mapping[str, Any]) -> str:
    text = f"{time['first']:.0f} to {time['last']:.0f}"
    if "days" in time:
        text += f" ({time['first_date']} to {time['last_date']}, {time['days']:,.0f} days)"
    return text


def _modalities(modalities: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not modalities:
        return []
    rows = []
    for name, modality in modalities.items():
        norm = " / ".join(f"{value:.3g}" for value in modality.get("norm", [])) or "-"
        cosine = f"{modality['mean_cosine']:.3f}" if "mean_cosine" in modality else "-"
        counts = [
            modality[key] for key in ("n_with", "n_without", "width", "dtype", "n_duplicates")
        ]
        rows.append((name, *counts, norm, cosine))
    return [*tabulate(rows, headers=_MODALITY_HEADS, tablefmt="github").splitlines(), ""]


def _findings(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    if not findings:
        return ["Nothing suspicious found."]
    lines = [f"{len(findings)} things to look at:", ""]
    for finding in findings:
        examples = f" First: {', '.join(finding['examples'])}." if finding["examples"] else ""
        lines.append(
            f"- **{finding['key']}**: {finding['what']}.{examples} To do: {finding['advice']}."
        )
    return lines
