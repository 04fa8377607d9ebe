"""Items' texts as prompts show them: words of the ``.item`` file and a description of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from recbole_llm.data.items import Items, item_texts, listed_rows
from recbole_llm.profiles.prompts import item_description

if TYPE_CHECKING:
    from recbole_llm.config import Config
    from recbole_llm.data.loading import Split


def row_tokens(config: Config, split: Split) -> list[str]:
    """Return the item tokens in the row order of feature files.

    Without ``item_ids.txt`` and ``.item`` file: the items of the interactions, in RecBole's order.
    """
    items = Items(config, [])
    if items.ids_file.is_file() or items.item_file.is_file():
        return listed_rows(items)[0]
    return [str(token) for token in split.dataset.field2id_token[split.dataset.iid_field][1:]]


def full_texts(
    columns: Sequence[str], items: Items, descriptions: Mapping[str, str]
) -> dict[str, str]:
    """Return each item's text joined to its image's description, not yet cut (eq. 2)."""
    tokens = items.tokens[1:]
    own = item_texts(columns, items) if columns else [""] * len(tokens)
    return {
        str(token): item_description(text, descriptions.get(str(token), ""))
        for token, text in zip(tokens, own, strict=True)
    }
