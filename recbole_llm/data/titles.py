"""The titles of items, for lists that people read."""

from collections.abc import Sequence

from recbole_llm.data.atomic import read_header
from recbole_llm.data.items import Items, item_cells

#: Columns of an ``.item`` file that hold a title, the best first.
TITLE_COLUMNS = ("title", "movie_title", "item_title", "name", "item_name")


def item_titles(items: Items) -> Sequence[str] | None:
    """Return each item's title by internal id, "" for padding and for an item without one.

    None where the dataset has no ``.item`` file, or that has no column of ``TITLE_COLUMNS``.

    Raises:
        ValueError: the file is malformed.
    """
    if not items.item_file.is_file():
        return None
    header = read_header(items.item_file, items.config)
    column = next((name for name in TITLE_COLUMNS if name in header), None)
    if column is None:
        return None
    return ["", *item_cells([column], items)[column].tolist()]
