"""A page whose tables are written from run records."""

import posixpath
import re
from collections.abc import Collection
from pathlib import Path

from recbole_llm.files import replacing
from recbole_llm.registry import suggest
from recbole_llm.report.rows import RowsTable, rows_to_markdown
from recbole_llm.sweep.validation import Entry, validate
from recbole_llm.yaml_io import read_yaml

_PLACE = re.compile(r"(<!-- rows: (.+?) -->\n)(.*?)(<!-- end of rows -->)", re.DOTALL)


class RowsFile(Entry):
    """A file of rows; its paths are seen from its own folder.

    Attributes:
        page: path of the page.
        records: path of the folder of run records.
        tables: tables by name.
    """

    page: str
    records: str
    tables: dict[str, RowsTable]


def write_results(rows_file: Path) -> Path:
    """Write the tables of a page between ``<!-- rows: NAME -->`` and ``<!-- end of rows -->``.

    Args:
        rows_file: YAML file with the keys of ``RowsFile``.

    Returns:
        The page; what is outside of the marks stays as it is.

    Raises:
        ValueError: a key or a record is wrong, runs of a row or a table do not compare, or the
            marks of the page are not the tables of the file.
        OSError: a file does not exist or cannot be written.
    """
    try:
        content = validate(RowsFile, read_yaml(rows_file))
        here = rows_file.parent.as_posix()
        page, folder = (
            Path(posixpath.normpath(posixpath.join(here, path)))
            for path in (content.page, content.records)
        )
        text = page.read_text(encoding="utf-8")
        _check_places(text, content.tables)
        link = posixpath.relpath(folder.as_posix(), page.parent.as_posix())
        tables = {
            name: rows_to_markdown(name, table, folder, link)
            for name, table in content.tables.items()
        }
    except ValueError as error:
        raise ValueError(f"{rows_file}: {error}") from error
    written = _PLACE.sub(lambda place: f"{place[1]}\n{tables[place[2]]}\n{place[4]}", text)
    with replacing(page) as file:
        file.write(written.encode())
    return page


def _check_places(text: str, tables: Collection[str]) -> None:
    places = [place[2] for place in _PLACE.finditer(text)]
    for name in places:
        if name not in tables:
            raise ValueError(
                f"the page has a place for {name!r}, and there is no such table."
                f"{suggest(name, list(tables))}"
            )
    for name in tables:
        if places.count(name) != 1:
            raise ValueError(
                f"table {name!r} has {places.count(name)} places in the page and needs one: "
                f"`<!-- rows: {name} -->` and `<!-- end of rows -->`, each on a line of its own."
            )
