"""The sources that ``recbole_llm prepare`` knows, by the word that names them there."""

from recbole_llm.prepare.sources.amazon2014 import Amazon2014
from recbole_llm.prepare.sources.amazon2018 import Amazon2018
from recbole_llm.prepare.sources.amazon2023 import Amazon2023
from recbole_llm.prepare.sources.base import Source
from recbole_llm.prepare.sources.microlens import MicroLens
from recbole_llm.prepare.sources.ml100k_content import MovieLens100KContent
from recbole_llm.prepare.sources.mmrec import MMRec
from recbole_llm.prepare.sources.movielens import MovieLens
from recbole_llm.prepare.sources.table import Table
from recbole_llm.prepare.sources.yelp import Yelp

_CLASSES = (
    Amazon2014,
    Amazon2018,
    Amazon2023,
    Yelp,
    MovieLens,
    MovieLens100KContent,
    MicroLens,
    MMRec,
    Table,
)

SOURCES: dict[str, type[Source]] = {source.key: source for source in _CLASSES}
