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
            _warn_of_repeats(path, feat, config, self.logger)
        return feat

    Dataset._load_feat = load_checked


def _warn_of_repeats(path: Path, feat: Any, config: Any, logger: Any) -> None:
    """Say how many rows of a ``.user`` or ``.item`` file RecBole leaves out: all but the first."""
    field = {f".{kind}": config[f"{kind.upper()}_ID_FIELD"] for kind in ("user", "item")}.get(
        path.suffix
    )
    if field in feat and (n_repeats := int(feat[field].duplicated().sum())):
        logger.warning(
            f"{path}: {n_repeats:,} rows repeat an earlier {field}; the first row of each counts."
        )


def _deciding_fields(path: Path, config: Any) -> tuple[list[str], list[str]]:
    """Return the fields in which no name, and those in which no number, may be missing."""
    names = ("USER_ID", "ITEM_ID", "HEAD_ENTITY_ID", "TAIL_ENTITY_ID", "RELATION_ID", "ENTITY_ID")
    numbers = [*(config["val_interval"] or {}), *(config["threshold"] or {})]
    if path.suffix == ".inter":
        numbers += [config[f"{name}_FIELD"] for name in ("TIME", "RATING", "LABEL")]
    return [config[f"{name}_FIELD"] for name in names], numbers
