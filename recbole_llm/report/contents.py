"""What a report holds, whatever format it is written in."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from recbole_llm.report.records import Run
from recbole_llm.report.table import Table


class PlainTable(NamedTuple):
    """A table of texts.

    Attributes:
        title: heading.
        heads: column headings.
        rows: rows, each as long as the headings.
        name: name of its files, ``<name>.csv`` and ``<name>.tex``; tables of one name share them.
        note: sentence below the table; may be empty.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    name: str = "table"
    note: str = ""


class Picture(NamedTuple):
    """A drawn figure.

    Attributes:
        title: title of the figure; may be empty.
        path: path of the PNG; the PDF stands next to it.
        link: path of the PNG from the report's folder.
        caption: sentence below the figure; may be empty.
    """

    title: str
    path: Path
    link: str
    caption: str = ""

    @property
    def name(self) -> str:
        """The title, or without one the name of the file."""
        return self.title or self.path.stem


class Report(NamedTuple):
    """The contents of a report.

    Attributes:
        title: heading.
        source: the paper and the place in it, as a sentence; may be empty.
        profile: profile of the spec.
        tables: tables of metrics.
        plain_tables: tables of costs, data and settings.
        pictures: the figures that were drawn.
        notes: sentences for the reader, below the title.
        runs: the runs whose numbers are shown, each once.
        facts: what was done, as pairs of a name and a text.
        bars: a picture of each table's rows, or None, in the order of ``tables``.
        files: paths of the report's other files, from its folder.
    """

    title: str
    source: str
    profile: str
    tables: Sequence[Table]
    plain_tables: Sequence[PlainTable]
    pictures: Sequence[Picture]
    notes: Sequence[str]
    runs: Sequence[Run]
    facts: Sequence[tuple[str, str]] = ()
    bars: Sequence[Picture | None] = ()
    files: Sequence[str] = ()
