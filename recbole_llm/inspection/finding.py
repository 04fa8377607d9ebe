"""One thing in a dataset that deserves a look before its numbers are trusted."""

from typing import NamedTuple

from recbole_llm.inspection.view import View
from recbole_llm.splitting.protocols import Index

#: Number of examples that a finding shows.
SHOWN = 5


class Finding(NamedTuple):
    """One thing to look at.

    Attributes:
        key: name of the kind of finding, the same in every report.
        what: a sentence with the numbers.
        n: number of interactions, users, items or rows that ``what`` speaks of.
        examples: the first ``SHOWN`` of them.
        advice: what the user can do.
    """

    key: str
    what: str
    n: int
    examples: list[str]
    advice: str


def pairs_of(view: View, rows: Index) -> list[str]:
    """Return the (user, item) tokens of the first ``SHOWN`` rows, as examples of a finding."""
    users, items = view.users(view.user[rows[:SHOWN]]), view.items(view.item[rows[:SHOWN]])
    return [f"({user}, {item})" for user, item in zip(users, items, strict=True)]
