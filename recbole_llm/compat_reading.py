"""Checks around RecBole's reader of atomic files, which ``compat`` puts in place."""

from pathlib import Path
from typing import Any

from recbole_llm.tables import (
    check_count,
    check_values,
    count_rows,
    first_fault,
    parse_header,
)


def repair_reading() -> None:
    """Check atomic files before RecBole reads them, and what it read of them."""
    from recbole.data.dataset.dataset import Dataset

    # It takes index labels for positions, and so drops other rows; those it is meant for, without
    # user or item, are refused below.
    Dataset._filter_nan_user_or_item = lambda self: None
    load = Dataset._load_feat

    def load_checked(self: Any, filepath: str, source: Any) -> Any:
        if self._get_load_and_unload_col(source)[0] == set():
            return None
        path, config = Path(filepath), self.config
        form = config["field_separator"], config["encoding"]
        header = parse_header(path, *form)
        n_rows = count_rows(path, len(header), *form)
        if not n_rows:
            raise ValueError(f"{path} holds a header and no row.")
        try:
            feat = load(self, filepath, source)
        except ValueError as error:
            raise ValueError(
                f"{path}: {first_fault(path, header, *form) or str(error).strip()}"
            ) from error
        if feat is not None:
            check_count(path, len(feat), n_rows)
            check_values(path, feat, *_deciding_fields(path, config), encoding=form[1])
            _tell_of_repeats(self, path, feat)
        return feat

    Dataset._load_feat = load_checked
    _repair_filters(Dataset)


def _repair_filters(dataset_class: Any) -> None:
    """Refuse values of ``val_interval`` and aliases by which RecBole loses rows, or stumbles later.

    It skips an interval that it cannot read with a warning, and if none is left it drops the last
    row but one (``~True`` is -2). Its check of aliases never fires (``isin.all() is False``).
    """
    filter_by_value, set_alias = dataset_class._filter_by_field_value, dataset_class._set_alias

    def filter_checked(self: Any) -> None:
        for field, value in (self.config["val_interval"] or {}).items():
            problem = _interval_problem(self, field, value)
            if problem:
                raise ValueError(
                    f"dataset {self.dataset_name!r}: val_interval of {field!r}: {problem}"
                )
        filter_by_value(self)

    def alias_checked(self: Any, alias_name: str, default_value: list[Any]) -> None:
        for field in self.config[f"alias_of_{alias_name}"] or []:
            if field not in self.token_like_fields:
                raise ValueError(
                    f"dataset {self.dataset_name!r}: alias_of_{alias_name}: no loaded column of "
                    f"names is called {field!r}; there are {', '.join(self.token_like_fields)}."
                )
        set_alias(self, alias_name, default_value)

    dataset_class._filter_by_field_value = filter_checked
    dataset_class._set_alias = alias_checked


def _interval_problem(dataset: Any, field: str, value: Any) -> str:
    """Return what is wrong with a value of ``val_interval``, or ""."""
    if field not in dataset.field2type:
        return f"no loaded column has this name; there are {', '.join(dataset.field2type)}."
    if str(dataset.field2type[field].value).startswith("float"):
        parts = str(value).split(";")
        if all(_is_interval(part.strip()) for part in parts):
            return ""
        return f'a column of numbers takes intervals, "[3,inf)" or "[0,1];[4,5]", got {value!r}.'
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return ""
    return f"a column of names takes a list of them, such as ['a', '7'], got {value!r}."


def _is_interval(text: str) -> bool:
    """Return whether a text is an interval that holds a number: ``(0,1]``, ``[4,inf)``."""
    if text[:1] not in ("(", "[") or text[-1:] not in (")", "]"):
        return False
    try:
        left, right = (float(number) for number in text[1:-1].split(","))
    except ValueError:
        return False
    return left <= right


def _tell_of_repeats(self: Any, path: Path, feat: Any) -> None:
    """Say how many rows of a ``.user`` or ``.item`` file RecBole leaves out: all but the first."""
    fields = {f".{kind}": self.config[f"{kind.upper()}_ID_FIELD"] for kind in ("user", "item")}
    field = fields.get(path.suffix)
    if field in feat and (n_repeats := int(feat[field].duplicated().sum())):
        self.logger.warning(
            f"{path}: {n_repeats:,} rows repeat an earlier {field}; the first row of each counts."
        )
        if hasattr(self, "repeated_rows"):  # a dataset of ours, whose record says so
            self.repeated_rows[path.name] = n_repeats


def _deciding_fields(path: Path, config: Any) -> tuple[list[str], list[str]]:
    """Return the fields in which no name, and those in which no number, may be missing."""
    names = ("USER_ID", "ITEM_ID", "HEAD_ENTITY_ID", "TAIL_ENTITY_ID", "RELATION_ID", "ENTITY_ID")
    numbers = [*(config["val_interval"] or {}), *(config["threshold"] or {})]
    if path.suffix == ".inter":
        numbers += [config[f"{name}_FIELD"] for name in ("TIME", "RATING", "LABEL")]
    return [config[f"{name}_FIELD"] for name in names], numbers
