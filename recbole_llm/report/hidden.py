"""What is hidden from the rankings that a table's numbers come from, as a sentence."""

from collections.abc import Mapping, Sequence

from recbole_llm.report.records import Run

_WORDS = {True: "the items that a user is known to have", False: "nothing"}


def hidden_note(rows: Mapping[str, Sequence[Run]], published: str | None) -> str:
    """Return what the rows measured here hide, and what the published ones do.

    Args:
        rows: runs of each measured row, by its label.
        published: words for what the authors hide, empty if that is not known; None without
            published rows.
    """
    labels: dict[str, list[str]] = {}
    for label, runs in rows.items():
        for words in dict.fromkeys(map(hidden_words, runs)):
            labels.setdefault(words, []).append(label)
    parts = [f"{words} ({', '.join(names)})" for words, names in labels.items()]
    if len(labels) == 1:
        parts = [f"{words} (all rows measured here)" for words in labels]
    if published is not None:
        parts.append(f"{published or 'not known'} (published)")
    return f"Hidden from the rankings: {'; '.join(parts)}." if parts else ""


def hidden_words(run: Run) -> str:
    """Return what one run hides from its rankings."""
    hides = run.record.config.get("mask_history")
    return _WORDS[hides] if isinstance(hides, bool) else "not recorded"
