"""The sources that ``recbole_llm prepare`` knows."""

from recbole_llm.prepare.sources.amazon import Amazon, Amazon2014, Amazon2018, Amazon2023
from recbole_llm.prepare.sources.base import Filters, Source
from recbole_llm.prepare.sources.microlens import MicroLens
from recbole_llm.prepare.sources.mmrec import MMRec
from recbole_llm.prepare.sources.movielens import MovieLens
from recbole_llm.prepare.sources.table import Table
from recbole_llm.prepare.sources.yelp import Yelp

__all__ = [
    "Amazon",
    "Amazon2014",
    "Amazon2018",
    "Amazon2023",
    "Filters",
    "MMRec",
    "MicroLens",
    "MovieLens",
    "Source",
    "Table",
    "Yelp",
]
