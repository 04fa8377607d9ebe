"""The datasets by name, and where the well known ones come from."""

from pathlib import Path
from typing import NamedTuple

import recbole

from recbole_llm.yaml_io import properties_dir

_RECBOLE_LIST = "https://recbole.io/dataset_list.html"
_S3REC = "https://github.com/aHuiWang/CIKM2020-S3Rec (to be written as atomic files)"
_DIFFMM = "https://github.com/HKUDS/DiffMM (to be written as atomic files)"


def _amazon(category: str) -> str:
    return f"`recbole_llm prepare amazon2014 --category={category}` builds it"


#: One line for each well known dataset, shown when its files are missing.
ORIGINS = {
    "baby": f"{_amazon('Baby')}, without a split; with DiffMM's fixed split: {_DIFFMM}.",
    "beauty": f"{_amazon('Beauty')}; as S3-Rec published it: {_S3REC}; "
    f"Amazon 5-core data in RecBole's atomic format: {_RECBOLE_LIST}.",
    "clothing": f"{_amazon('Clothing_Shoes_and_Jewelry')}.",
    "electronics": f"{_amazon('Electronics')}.",
    "microlens": "`recbole_llm prepare microlens` builds it.",
    "ml-100k": f"MovieLens-100K comes with RecBole itself; also: {_RECBOLE_LIST}.",
    "ml-100k-mm": "`recbole_llm prepare ml-100k-content --path=DIR` builds it.",
    "ml-1m": "`recbole_llm prepare movielens --size=1m` builds it.",
    "ml-20m": "`recbole_llm prepare movielens --size=20m` builds it.",
    "sports": f"{_amazon('Sports_and_Outdoors')}; as S3-Rec published it: {_S3REC}; "
    f"Amazon 5-core data in RecBole's atomic format: {_RECBOLE_LIST}.",
    "tiktok": f"TikTok micro-videos with DiffMM's fixed split: {_DIFFMM}.",
    "toys": f"{_amazon('Toys_and_Games')}.",
    "yelp": f"`recbole_llm prepare yelp` builds it from Yelp's current release; as S3-Rec "
    f"published it: {_S3REC}; Yelp in RecBole's atomic format: {_RECBOLE_LIST}.",
}


class DatasetEntry(NamedTuple):
    """Name of a dataset, the folder where it is expected, and whether interactions are in it."""

    name: str
    path: Path
    has_files: bool


def available_datasets(data_path: str | Path) -> list[DatasetEntry]:
    """List the datasets that are well known or have a folder of their own, by name.

    Args:
        data_path: parent of the dataset folders, which may be missing.
    """
    parent = Path(data_path)
    names = set(ORIGINS) | {path.stem for path in (properties_dir() / "dataset").glob("*.yaml")}
    if parent.is_dir():
        names |= {path.name for path in parent.iterdir() if has_interactions(path)}
    entries = []
    for name in sorted(names):
        path = parent / name
        if name == "ml-100k" and not has_interactions(path):
            path = Path(recbole.__file__).parent / "dataset_example" / name
        entries.append(DatasetEntry(name, path, has_interactions(path)))
    return entries


def has_interactions(folder: Path) -> bool:
    """Return whether a dataset's folder holds ``<name>.inter`` or ``<name>.<part>.inter``."""
    if not folder.is_dir():
        return False
    return any(
        path.name.startswith(f"{folder.name}.") and path.suffix == ".inter"
        for path in folder.iterdir()
    )
