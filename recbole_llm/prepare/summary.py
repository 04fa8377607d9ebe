"""What ``prepare`` prints of the dataset that it built: counts, and the published sizes."""

from typing import Any

from tabulate import tabulate

from recbole_llm.prepare.sources.base import Size, Source


def count_table(manifest: dict[str, Any]) -> str:
    """Return a table of the lines read, the effect of each filter and the size of the dataset."""
    rows = []
    for file, count in manifest["lines"].items():
        rows.append((f"lines of {file}", count["read"]))
        if count["malformed"]:
            numbers = ", ".join(map(str, count["first_malformed"]))
            label = f"  malformed, skipped (first: {numbers}; {count['problem'][:80]})"
            rows.append((label, count["malformed"]))
    rows += [(name.replace("_", " "), number) for name, number in manifest["steps"].items()]
    for column, count in manifest["empty"].items():
        rows.append((f"  without {column} (dataset.yaml does not load this column)", count))
    statistics = manifest["statistics"]
    rows += [(name, statistics[name]) for name in ("users", "items", "interactions")]
    rows.append(("sparsity", f"{statistics['sparsity']:.4%}"))
    if f"{manifest['dataset']}.item" in manifest["files"]:
        rows.append(("items described", statistics["items_described"]))
        if statistics["described_again"]:
            rows.append(("  further descriptions, left out", statistics["described_again"]))
    for file, note in manifest["features"].items():
        rows.append((f"items without a row in {file}", note["items_without"]))
    return tabulate(rows, intfmt=",")


def comparison(source: Source, users: int, items: int, interactions: int) -> list[str]:
    """Return the published sizes of a dataset, each with its differences from what was built.

    Args:
        source: source of the dataset, whose default name says which sizes are meant.
        users: number of users that was built.
        items: number of items that was built.
        interactions: number of interactions that was built.
    """
    lines = []
    for size in source.published.get(source.dataset, ()):
        lines.append(
            f"published ({size.where}): {size.users:,} users, {size.items:,} items, "
            f"{size.interactions:,} interactions"
        )
        gaps = {
            "users": users - size.users,
            "items": items - size.items,
            "interactions": interactions - size.interactions,
        }
        texts = [f"{gap:+,} {name}" for name, gap in gaps.items() if gap]
        if texts:
            note = _explanation(size, list(gaps.values()), users)
            lines.append(f"  here: {', '.join(texts)}" + (f": {note}" if note else ""))
        else:
            lines.append("  the same here")
    return lines


def _explanation(size: Size, gaps: list[int], users: int) -> str:
    if size.counts_one_less and gaps == [0, 0, users]:
        return "the paper counts one interaction a user fewer than the data has"
    return size.note
