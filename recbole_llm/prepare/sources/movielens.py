"""MovieLens 100K, 1M and 20M, zip archives of GroupLens in three formats."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recbole_llm.prepare.interactions import InteractionLog
from recbole_llm.prepare.lines import LineCount, find_member, for_each_line, for_each_row
from recbole_llm.prepare.raw_files import Fetched, RawFile
from recbole_llm.prepare.sources.base import ItemWriter, Option, Size, Source

_GENRES_100K = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy "
    "Film-Noir Horror Musical Mystery Romance Sci-Fi Thriller War Western"
).split()


class MovieLens(Source):
    """One size: 100k, 1m or 20m; every rating is an interaction."""

    key = "movielens"
    HELP = "MovieLens 100K, 1M or 20M"
    options = (Option("size", "which of them", choices=("100k", "1m", "20m"), required=True),)
    addresses = {"archive": "https://files.grouplens.org/datasets/movielens/ml-{}.zip"}
    published = {
        "ml-100k": (Size("GroupLens", 943, 1_682, 100_000),),
        "ml-1m": (Size("GroupLens", 6_040, 3_706, 1_000_209),),
        "ml-20m": (Size("GroupLens", 138_493, 26_744, 20_000_263),),
    }
    item_columns = {"title": "token_seq", "genres": "token_seq"}
    text_columns = ("title", "genres")
    multi_hot_columns = {"genre": "genres"}

    def __init__(self, size: str) -> None:
        self.variant = size

    @property
    def dataset(self) -> str:
        """GroupLens' name of the size."""
        return f"ml-{self.variant}"

    def chosen(self) -> dict[str, Any]:
        """Return the size."""
        return {"size": self.variant}

    def raw_files(self, folder: Path) -> list[RawFile]:
        """Return the archive."""
        return [self.raw_file("archive")]

    def read_interactions(
        self, files: Mapping[str, Fetched], log: InteractionLog
    ) -> dict[str, LineCount]:
        """Read the ratings."""
        archive = files["archive"].path
        name = {"100k": "u.data", "1m": "ratings.dat", "20m": "ratings.csv"}[self.variant]
        separator = {"100k": b"\t", "1m": b"::", "20m": b","}[self.variant]

        def read(line: bytes) -> None:
            user, item, rating, time = line.decode("ascii").split(separator.decode())
            log.add(user, item, float(rating), float(time))

        member = find_member(archive, name)
        return {name: for_each_line(archive, read, member, header=int(self.variant == "20m"))}

    def read_items(
        self, files: Mapping[str, Fetched], codes: Mapping[str, int], write: ItemWriter
    ) -> dict[str, LineCount]:
        """Read titles and genres."""
        archive = files["archive"].path
        name = {"100k": "u.item", "1m": "movies.dat", "20m": "movies.csv"}[self.variant]
        member = find_member(archive, name)

        def keep(movie: str, title: str, genres: list[str]) -> None:
            if movie in codes:
                write(movie, title, [genre for genre in genres if genre != "(no genres listed)"])

        def start_20m(names: list[str]) -> Callable[[list[str]], None]:
            return lambda cells: keep(cells[0], cells[1], cells[2].split("|"))

        def line_1m(line: bytes) -> None:
            movie, title, genres = line.decode("latin-1").split("::")
            keep(movie, title, genres.strip().split("|"))

        def line_100k(line: bytes) -> None:
            cells = line.decode("latin-1").strip().split("|")
            flags = zip(_GENRES_100K, cells[5:], strict=True)
            keep(cells[0], cells[1], [genre for genre, flag in flags if flag == "1"])

        if self.variant == "20m":
            return {name: for_each_row(archive, start_20m, member)}
        read = line_1m if self.variant == "1m" else line_100k
        return {name: for_each_line(archive, read, member)}
