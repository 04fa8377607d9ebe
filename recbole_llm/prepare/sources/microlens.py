"""MicroLens-100K: pairs and titles as CSV, features as .npy, by the Westlake group."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llm.prepare.filters import Filters
from recbole_llm.prepare.interactions import InteractionLog
from recbole_llm.prepare.lines import LineCount, for_each_line, for_each_row
from recbole_llm.prepare.markup import plain_text
from recbole_llm.prepare.raw_files import Fetched, RawFile
from recbole_llm.prepare.sources.base import Feature, ItemWriter, Option, Source, npy_rows

_WESTLAKE = "https://recsys.westlake.edu.cn/MicroLens-100k-Dataset"
_EXTRACTED = f"{_WESTLAKE}/extracted_modality_features/MicroLens-100k"
_FEATURES = ("image", "text", "video")


class MicroLens(Source):
    """Short videos of 100,000 users.

    Args:
        image_features: whether the published image, text and video features are included.
    """

    key = "microlens"
    HELP = "MicroLens-100K"
    options = (Option("image_features", "also image, text and video features", is_flag=True),)
    addresses = {
        "pairs": f"{_WESTLAKE}/MicroLens-100k_pairs.csv",
        "titles": f"{_WESTLAKE}/MicroLens-100k_title_en.csv",
        "image": f"{_EXTRACTED}_image_features_CLIPRN50.npy",
        "text": f"{_EXTRACTED}_title_en_text_features_BgeM3.npy",
        "video": f"{_EXTRACTED}_video_features_VideoMAE.npy",
    }
    inter_columns = ("timestamp",)
    item_columns = {"title": "token_seq"}
    text_columns = ("title",)
    filters = Filters(k_core=5)

    def __init__(self, image_features: bool = False) -> None:
        self.image_features = image_features

    def chosen(self) -> dict[str, Any]:
        """Return whether the features are included."""
        return {"image_features": self.image_features}

    def raw_files(self, folder: Path) -> list[RawFile]:
        """Return pairs, titles and, if they are included, features."""
        roles = ["pairs", "titles", *(_FEATURES if self.image_features else ())]
        return [self.raw_file(role) for role in roles]

    def read_interactions(
        self, files: Mapping[str, Fetched], log: InteractionLog
    ) -> dict[str, LineCount]:
        """Read the pairs; their time is in milliseconds."""

        def start(names: list[str]) -> Callable[[list[str]], None]:
            user, item, time = (names.index(name) for name in ("user", "item", "timestamp"))
            return lambda row: log.add(row[user], row[item], time=float(row[time]) / 1000)

        path = files["pairs"].path
        return {path.name: for_each_row(path, start)}

    def read_items(
        self, files: Mapping[str, Fetched], codes: Mapping[str, int], write: ItemWriter
    ) -> dict[str, LineCount]:
        """Read the titles: each is the rest of its line, commas and quotation marks included."""

        def read(line: bytes) -> None:
            video, _, title = line.decode("utf-8", "surrogateescape").partition(",")
            if video.strip() in codes:
                write(video.strip(), plain_text(_unquoted(title.strip())))

        path = files["titles"].path
        return {path.name: for_each_line(path, read)}

    def features(self, files: Mapping[str, Fetched]) -> dict[str, Feature]:
        """Return the published features: row r is video r + 1."""
        features = {}
        for name in _FEATURES if self.image_features else ():
            path = files[name].path
            n_rows = len(np.load(path, mmap_mode="r", allow_pickle=False))
            features[name] = npy_rows(path, [str(row + 1) for row in range(n_rows)])
        return features


def _unquoted(title: str) -> str:
    """Return a title without the quotation marks that CSV puts around one with commas."""
    is_quoted = len(title) > 1 and title[0] == title[-1] == '"'
    return title[1:-1].replace('""', '"') if is_quoted else title
