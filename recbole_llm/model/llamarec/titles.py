"""The items' titles, looked up before anything is trained."""

import logging

from recbole_llm.config import Config
from recbole_llm.data.atomic import read_header, read_item_columns
from recbole_llm.data.items import Items, item_texts

#: Text that stands for an item without a title.
UNTITLED = "untitled"


def title_columns(config: Config) -> list[str]:
    """Return the columns of the ``.item`` file that hold titles.

    Config keys: ``item_text``; ~ takes the column ``title``, or else each one whose name ends in
    ``title``, such as ``movie_title``.

    Raises:
        FileNotFoundError: the dataset has no ``.item`` file.
        ValueError: the file has no such column, or none of its items has a title.
    """
    path, asked = Items(config, []).item_file, config["item_text"]
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist, and the prompt is made of the items' titles. Give the dataset "
            f"an .item file with the header {config['ITEM_ID_FIELD']}:token<TAB>title:token_seq."
        )
    header = read_header(path, config)
    columns = asked or (
        ["title"] if "title" in header else [name for name in header if name.endswith("title")]
    )
    unknown = [name for name in columns if name not in header]
    if unknown or not columns:
        raise ValueError(
            f"{path} has no column {unknown[0] if unknown else 'title'!r}, it has "
            f"{', '.join(header)}. Name the columns of the items' titles with "
            f'--item_text="[column]".'
        )
    if not read_item_columns(path, columns, config).ne("").to_numpy().any():
        raise ValueError(f"{path}: no item has text in {', '.join(columns)} (item_text).")
    return columns


def read_titles(config: Config, tokens: list[str]) -> list[str]:
    """Return the title of each item but the padding item; ``untitled`` where there is none.

    Args:
        config: settings of the model.
        tokens: item tokens by internal id.

    Raises:
        FileNotFoundError, ValueError: as ``title_columns``.
    """
    texts = item_texts(title_columns(config), Items(config, tokens))
    n_missing = texts.count("")
    if n_missing:
        logging.getLogger().warning(
            "%d of %d items have no title; the prompt calls each of them %r.",
            n_missing,
            len(texts),
            UNTITLED,
        )
    return [text or UNTITLED for text in texts]
