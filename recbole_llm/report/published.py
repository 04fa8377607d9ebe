"""The papers' own numbers, from ``benchmarks/published/``."""

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, FiniteFloat

from recbole_llm.sweep.spec import Spec
from recbole_llm.sweep.validation import validate
from recbole_llm.yaml_io import read_yaml


class Published(NamedTuple):
    """A table as its paper prints it.

    Attributes:
        source: paper, place in it, and remarks, as a sentence.
        hides: words for what the authors' code hides from the rankings; may be empty.
        rows: values by label of the row, dataset, and column; a cell that the paper leaves empty
            is left out.
    """

    source: str
    hides: str
    rows: dict[str, dict[str, dict[str, Any]]]


class _TableFile(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    where: str
    columns: list[str]
    rows: dict[str, dict[str, list[int | FiniteFloat | str | None]]]
    note: str = ""


class _PublishedFile(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    paper: str
    hides: str = ""
    tables: dict[str, _TableFile]


def read_published(spec: Spec) -> Published | None:
    """Read the table that a spec's ``published`` names; None if the spec names none.

    Raises:
        ValueError: the file does not exist, is malformed or has no such table, or a row has more
            or fewer values than columns.
    """
    if not spec.published:
        return None
    file, _, name = spec.published.partition("/")
    path = published_folder(spec) / f"{file}.yaml"
    if not path.is_file():
        raise ValueError(f"published: {path} does not exist, so it has no table {name!r}.")
    try:
        content = validate(_PublishedFile, read_yaml(path))
    except ValueError as error:
        raise ValueError(f"published: {path}: {error}") from error
    table = content.tables.get(name)
    if table is None:
        raise ValueError(f"published: {path} has no table {name!r}.")
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for label, by_dataset in table.rows.items():
        for dataset, values in by_dataset.items():
            if len(values) != len(table.columns):
                raise ValueError(
                    f"{path}, {name}, {label}, {dataset}: {len(values)} values for "
                    f"{len(table.columns)} columns."
                )
            pairs = zip(table.columns, values, strict=True)
            rows.setdefault(label, {})[dataset] = {k: v for k, v in pairs if v is not None}
    source = f"Published: {content.paper}, {table.where}. {table.note}".strip()
    return Published(source, content.hides, rows)


def published_folder(spec: Spec) -> Path:
    """Return the folder of published numbers, next to the folder of the spec."""
    return spec.path.resolve().parent.parent / "published"
