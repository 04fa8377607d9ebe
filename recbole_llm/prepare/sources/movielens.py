"""MovieLens 100K, 1M and 20M, zip archives of GroupLens in three formats."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from recbole_llm.net.download import Fetched, RawFile
from recbole_llm.prepare.addresses import raw_file
from recbole_llm.prepare.interactions import InteractionLog
from recbole_llm.prepare.lines import LineCount, find_member, for_each_line, for_each_row
from recbole_llm.prepare.sources.base import ItemWriter, Source

_GENRES_100K = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy "
    "Film-Noir Horror Musical Mystery Romance Sci-Fi Thriller War Western"
).split()


class MovieLens(Source):
    """One size: 100k, 1m or 20m; every rating is an interaction."""

    key: ClassVar[str] = "movielens"
    item_columns = {"title": "token_seq", "genres": "token_seq"}
    text_columns = ("title", "genres")
    multi_hot_columns = {"genre": "genres"}

    def __init__(self, size: str) -> None:
        self.variant = size

    def options(self) -> dict[str, Any]:
        """Return the size."""
        return {"size": self.variant}

    def raw_files(self, folder: Path) -> list[RawFile]:
        """Return the archive."""
        return [raw_file(self.key, "archive", self.variant)]

    def read_interactions(
        self, files: Mapping[str, Fetched], log: InteractionLog
    ) -> dict[str, LineCount]:
        """Read the ratings."""
        archive = files["archive"].path
        name = {"100k": "u.data", "1m": "ratings.dat", "20m": "ratings.csv"}[self.variant]
        separator = {"100k": b"\t", "1m": b"::", "20m": b","}[self.variant]

        def use(line: bytes) -> None:
            user, item, rating, time = line.decode("ascii").split(separator.decode())
            log.add(user, item, float(rating), float(time))

        member = find_member(archive, name)
        return {name: for_each_line(archive, use, member, header=int(self.variant == "20m"))}

    def read_items(
        self, files: Mapping[str, Fetched], wanted: Mapping[str, int], write: ItemWriter
    ) -> dict[str, LineCount]:
        """Read titles and genres."""
        archive = files["archive"].path
        name = {"100k": "u.item", "1m": "movies.dat", "20m": "movies.csv"}[self.variant]
        member = find_member(archive, name)

        def keep(movie: str, title: str, genres: list[str]) -> None:
            if movie in wanted:
                write(movie, title, [it for it in genres if it != "(no genres listed)"])

        def row(names: list[str]) -> Callable[[list[str]], None]:
            return lambda cells: keep(cells[0], cells[1], cells[2].split("|"))

        def line_1m(line: bytes) -> None:
            movie, title, genres = line.decode("latin-1").split("::")
            keep(movie, title, genres.strip().split("|"))

        def line_100k(line: bytes) -> None:
            cells = line.decode("latin-1").strip().split("|")
            flags = zip(_GENRES_100K, cells[5:], strict=True)
            keep(cells[0], cells[1], [genre for genre, flag in flags if flag == "1"])

        if self.variant == "20m":
            return {name: for_each_row(archive, row, member)}
        use = line_1m if self.variant == "1m" else line_100k
        return {name: for_each_line(archive, use, member)}
