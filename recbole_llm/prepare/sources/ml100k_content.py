"""Posters and plots for the ratings of MovieLens 100K that come with RecBole."""

import csv
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from recbole_llm.encoders.images import IMAGE_SUFFIXES, find_images
from recbole_llm.prepare.interactions import InteractionLog
from recbole_llm.prepare.lines import LineCount, for_each_row, read_header
from recbole_llm.prepare.raw_files import Fetched, local_file
from recbole_llm.prepare.sources.base import Feature, ItemWriter, Option, Size, Source

if TYPE_CHECKING:
    from recbole_llm.encoders.efficientnet import LiteEncoder

_COLUMNS = ("item_id", "title", "genres", "plot")
_BATCH = 64  # images encoded at a time
_WRONG_TITLES = 0.1  # share of titles from which the ids are those of another catalogue


class MovieLens100KContent(Source):
    """A folder with ``items.csv`` and ``images/<item_id>.jpg``, by MovieLens 100K's movie ids.

    The images' features are those of the embedded encoder, 1,280 columns. They have a large common
    part, so the dataset's settings standardise columns.

    Args:
        folder: folder of the files; ``items.csv`` has the columns item_id, title (with the year in
            parentheses), genres (separated by a space) and plot, and may have others.

    """

    key = "ml-100k-content"
    HELP = "RecBole's MovieLens 100K with posters and plots of your own"
    options = (Option("path", "folder with items.csv and images/<item_id>.jpg", required=True),)
    published = {"ml-100k-mm": (Size("GroupLens", 943, 1_682, 100_000),)}
    item_columns = {"title": "token_seq", "genres": "token_seq", "plot": "token_seq"}
    text_columns = ("title", "genres", "plot")
    settings = {"modality_scaling": "standard"}
    is_local = True

    def __init__(self, folder: Path) -> None:
        self.items, self.folder = folder / "items.csv", folder / "images"
        package = importlib.util.find_spec("recbole")
        assert package is not None and package.origin is not None  # it is a dependency
        ratings = Path(package.origin).parent / "dataset_example" / "ml-100k"
        self.ratings, self.movies = ratings / "ml-100k.inter", ratings / "ml-100k.item"

    @cached_property
    def images(self) -> dict[str, Path]:
        """The image file of each movie that has one, by its id."""
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder} is not a folder.")
        images = find_images(self.folder, _read_titles(self.movies))
        if not images:
            raise ValueError(
                f"{self.folder} has no file <item_id>{'|'.join(IMAGE_SUFFIXES)} of a movie of "
                f"ml-100k."
            )
        return images

    @cached_property
    def encoder(self) -> "LiteEncoder":
        """The embedded image encoder."""
        import torch

        from recbole_llm.encoders.efficientnet import LiteEncoder

        return LiteEncoder("auto", torch.device("cpu"))

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "MovieLens100KContent":
        """Return the source for ``path``."""
        return cls(Path(options["path"]))

    @property
    def dataset(self) -> str:
        """Name of the dataset, beside RecBole's ml-100k."""
        return "ml-100k-mm"

    def chosen(self) -> dict[str, Any]:
        """Return the image encoder and how many movies have an image."""
        return {"images": len(self.images), "image_encoder": self.encoder.identity}

    def local_files(self) -> dict[str, Fetched]:
        """Return RecBole's ratings and the table of items, after all that can be wrong is checked.

        Raises:
            ValueError: ``items.csv`` lacks a column, its ids are those of another catalogue, or
                there is no image.
            OSError: a file or folder does not exist.
            ImportError: the embedded image encoder is not installed.
        """
        files = {"ratings": self.ratings, "items": self.items}
        local = {role: local_file(role, path) for role, path in files.items()}
        missing = [name for name in _COLUMNS if name not in read_header(self.items, ",")]
        if missing:
            raise ValueError(
                f"{self.items} must have the columns {', '.join(_COLUMNS)}; it lacks "
                f"{', '.join(missing)}."
            )
        self._check_titles(_read_titles(self.movies))
        self.chosen()
        return local

    def read_interactions(
        self, files: Mapping[str, Fetched], log: InteractionLog
    ) -> dict[str, LineCount]:
        """Read RecBole's ratings."""

        def start(names: list[str]) -> Callable[[list[str]], None]:
            user, item, rating, time = (
                names.index(name)
                for name in ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
            )
            return lambda row: log.add(row[user], row[item], float(row[rating]), float(row[time]))

        return {self.ratings.name: for_each_row(self.ratings, start, separator="\t")}

    def read_items(
        self, files: Mapping[str, Fetched], codes: Mapping[str, int], write: ItemWriter
    ) -> dict[str, LineCount]:
        """Read title, genres and plot of the movies."""

        def start(names: list[str]) -> Callable[[list[str]], None]:
            token, title, genres, plot = (names.index(name) for name in _COLUMNS)

            def read(row: list[str]) -> None:
                if row[token] in codes:
                    write(row[token], row[title], row[genres].split(), row[plot])

            return read

        return {self.items.name: for_each_row(self.items, start, separator=",")}

    def features(self, files: Mapping[str, Fetched]) -> dict[str, Feature]:
        """Return the images' features; an image that cannot be read counts as missing."""
        return {"image": Feature(self.encoder.width, np.float32, self._encoded())}

    def _encoded(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        tokens, paths = list(self.images), list(self.images.values())
        with tqdm(total=len(paths), desc="encoding", unit="image", dynamic_ncols=True) as bar:
            for start in range(0, len(paths), _BATCH):
                batch = paths[start : start + _BATCH]
                vectors, failed = self.encoder.encode(batch)
                kept = [start + n for n in range(len(batch)) if n not in failed]
                yield from zip([tokens[number] for number in kept], vectors, strict=True)
                bar.update(len(batch))

    def _check_titles(self, titles: Mapping[str, str]) -> None:
        """Compare titles with RecBole's: movies numbered otherwise would get others' content."""
        with self.items.open(encoding="utf-8-sig", newline="") as file:
            rows = [(row["item_id"], row["title"] or "") for row in csv.DictReader(file)]
        wrong = [
            (item, title)
            for item, title in rows
            if not title.replace('"', "").startswith(titles.get(item, "\0"))
        ]
        if not rows or len(wrong) > _WRONG_TITLES * len(rows):
            item, title = wrong[0] if wrong else ("", "")
            raise ValueError(
                f"{self.items} is not about ml-100k: {len(wrong)} of {len(rows)} titles are others "
                f"there (first: item_id {item!r} is {title!r}, ml-100k has "
                f"{titles.get(item, 'no such movie')!r}). item_id must be MovieLens 100K's."
            )


def _read_titles(path: Path) -> dict[str, str]:
    """Return the title of each movie of RecBole's ml-100k by its id."""
    titles: dict[str, str] = {}

    def start(names: list[str]) -> Callable[[list[str]], None]:
        token, title = names.index("item_id:token"), names.index("movie_title:token_seq")
        return lambda row: titles.update({row[token]: row[title].replace('"', "")})

    for_each_row(path, start, separator="\t")
    return titles
