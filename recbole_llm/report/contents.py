"""What a report holds, whatever format it is written in."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from recbole_llm.report.records import Run
from recbole_llm.report.table import Table


class PlainTable(NamedTuple):
    """A table of texts: a title, column headings, and rows as long as the headings."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


class Picture(NamedTuple):
    """A drawn figure.

    Attributes:
        title: title of the figure; may be empty.
        path: path of the PNG.
        link: path of the PNG from the report's folder.
    """

    title: str
    path: Path
    link: str

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
        plain_tables: tables of costs.
        pictures: the figures that were drawn.
        notes: sentences for the reader, below the title.
        runs: the runs whose numbers are shown, each once.
    """

    title: str
    source: str
    profile: str
    tables: Sequence[Table]
    plain_tables: Sequence[PlainTable]
    pictures: Sequence[Picture]
    notes: Sequence[str]
    runs: Sequence[Run]
