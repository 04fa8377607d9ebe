"""The sources that ``recbole_llm prepare`` knows."""

from recbole_llm.data.prepare.sources.amazon import Amazon, Amazon2014, Amazon2018, Amazon2023
from recbole_llm.data.prepare.sources.base import Filters, Source
from recbole_llm.data.prepare.sources.microlens import MicroLens
from recbole_llm.data.prepare.sources.mmrec import MMRec
from recbole_llm.data.prepare.sources.movielens import MovieLens
from recbole_llm.data.prepare.sources.table import Table
from recbole_llm.data.prepare.sources.yelp import Yelp

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
