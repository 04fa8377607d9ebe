"""RecBole's atomic files: checked before RecBole reads them, and the item file as plain text."""

import csv
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from recbole_llm.config import Config
from recbole_llm.data.catalog import ORIGINS
from recbole_llm.settings.labels import reads_label_column
from recbole_llm.tables import check_count, check_values, count_rows, parse_header

_NOT_TEXT = re.compile(r"_ids?$|(?:^|_)urls?(?:_|$)|[a-z]U(?:RL|rl)")
_HEADER_FORM = "user_id:token<TAB>item_id:token..."


def inter_files(config: Config) -> list[Path]:
    """Return the interaction files that RecBole will load: one, or one a part of a fixed split."""
    folder, name = Path(config["data_path"]), config["dataset"]
    parts = config["benchmark_filename"]
    if parts is None:
        return [folder / f"{name}.inter"]
    return [folder / f"{name}.{part}.inter" for part in parts]


def check_inter_files(config: Config) -> None:
    """Check that the interaction files are there and have the columns that the settings need.

    Raises:
        FileNotFoundError: the dataset's folder or one of its interaction files is missing.
        ValueError: a header is malformed, or a column is missing, not loaded or of a wrong type.
    """
    files = inter_files(config)
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        # RecBole would try to download here.
        raise FileNotFoundError(_missing_files(config, [path.name for path in files], missing))
    for path in files:
        _check_columns(path, read_header(path, config), config)


def _missing_files(config: Config, expected: list[str], missing: list[str]) -> str:
    folder, name = Path(config["data_path"]), config["dataset"]
    found = f"{', '.join(missing)} not in {folder}" if folder.is_dir() else f"no folder {folder}"
    lines = [
        f"dataset {name!r}: {found}.",
        f"Expected files: {', '.join(expected)}, tab separated, with the header {_HEADER_FORM}",
        f"--data_path= sets the parent folder of '{name}' (now {folder.parent}).",
    ]
    if name in ORIGINS:
        lines.append(ORIGINS[name])
    return "\n    ".join(lines)


def read_header(path: Path, config: Config) -> dict[str, str]:
    """Return the columns of an atomic file: name to type, in file order.

    Raises:
        ValueError: a column is not ``name:type`` with a type that RecBole knows, or two columns
            have one name.
    """
    return parse_header(path, config["field_separator"], config["encoding"])


def _check_columns(path: Path, header: dict[str, str], config: Config) -> None:
    needed = {
        config["USER_ID_FIELD"]: ("token", "USER_ID_FIELD"),
        config["ITEM_ID_FIELD"]: ("token", "ITEM_ID_FIELD"),
    }
    if config["benchmark_filename"] is None and config["eval_args"].get("order") == "TO":
        needed[config["TIME_FIELD"]] = ("float", "TIME_FIELD, by which `order: TO` sorts")
    if reads_label_column(config.final_config_dict, config.model_class):
        needed[config["LABEL_FIELD"]] = ("float", "LABEL_FIELD; --threshold makes one of ratings")
    columns = config["load_col"] and config["load_col"].get("inter", [])
    loaded = list(header) if columns in (None, "*") else list(columns)
    for name in {**needed, **dict.fromkeys(loaded)}:
        kind, reason = needed.get(name, (None, "load_col"))
        if name not in header:
            raise ValueError(
                f"{path}: no column {name!r} ({reason}), the file has {', '.join(header)}. "
                f"Expected a header like {_HEADER_FORM}"
            )
        if kind is not None and header[name] != kind:
            raise ValueError(
                f"{path}: column {name!r} ({reason}) has type {header[name]}, expected {kind}: "
                f"write {name}:{kind} in the header."
            )
        if name not in loaded:
            raise ValueError(
                f"dataset {config['dataset']!r}: load_col leaves out column {name!r} ({reason}) "
                f"of {path.name}. Load it: load_col: {{inter: [{', '.join([*loaded, name])}]}}."
            )


def read_item_columns(path: Path, columns: Sequence[str], config: Config) -> pd.DataFrame:
    """Read columns of a ``.item`` file as text, empty cells as ``""``, indexed by item token.

    Of an item with two rows the first counts, as in RecBole; the log has their number.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file lacks a column, its header or a line is malformed, or a row has no
            item token.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; its columns {', '.join(columns)} are needed."
        )
    item_field = config["ITEM_ID_FIELD"]
    frame = _read_text(path, [item_field, *columns], config)
    is_repeat = frame[item_field].duplicated()
    if is_repeat.any():
        logging.getLogger().warning(
            "%s: %d rows repeat an earlier %s; the first row of each counts.",
            path,
            is_repeat.sum(),
            item_field,
        )
    return frame[~is_repeat].set_index(item_field)


def _read_text(path: Path, columns: Sequence[str], config: Config) -> pd.DataFrame:
    """Read columns as text; the first one holds ids, of which none may be missing."""
    header = read_header(path, config)
    for name in columns:
        if name not in header:
            raise ValueError(f"{path} has no column {name!r}, it has {', '.join(header)}.")
    separator, encoding = config["field_separator"], config["encoding"]
    n_rows = count_rows(path, len(header), separator, encoding)
    # Item tokens such as NA or null are names, not missing values.
    frame = pd.read_csv(
        path,
        sep=separator,
        header=0,
        names=list(header),
        index_col=False,
        usecols=list(dict.fromkeys(columns)),
        dtype=str,
        keep_default_na=False,
        na_filter=False,
        quoting=csv.QUOTE_NONE,
        encoding=encoding,
        engine="python" if len(separator) > 1 else "c",
    )
    check_count(path, len(frame), n_rows)
    ids = frame[[columns[0]]]
    check_values(path, ids.where(ids != ""), list(ids), [], encoding)
    return frame


def text_columns(asked: str | None, path: Path, config: Config, option: str) -> list[str]:
    """Return the columns of a ``.item`` file that make an item's text.

    Args:
        asked: column names separated by commas; None takes each token or token_seq column except
            ids (the item's own, or a name that ends in ``_id`` or ``_ids``) and URLs
            (``image_url``, ``imageURL``).
        path: path of the ``.item`` file; without the file no column is text.
        config: settings of the data.
        option: name of the option that ``asked`` comes from, for messages.

    Raises:
        FileNotFoundError: columns are asked for and the file does not exist.
        ValueError: a column is not in the file, or its header is malformed.
    """
    if not path.is_file():
        if asked:
            raise FileNotFoundError(f"{option}={asked}: {path} does not exist.")
        return []
    header = read_header(path, config)
    if asked is None:
        return [
            name
            for name, kind in header.items()
            if kind in ("token", "token_seq")
            and not _NOT_TEXT.search(name)
            and name != config["ITEM_ID_FIELD"]
        ]
    columns = [name.strip() for name in asked.split(",") if name.strip()]
    for name in columns:
        if name not in header:
            raise ValueError(
                f"{option}: {path} has no column {name!r}, it has {', '.join(header)}."
            )
    return columns


def interaction_items(config: Config) -> set[str]:
    """Return the tokens of all items in the existing interaction files, possibly none.

    Raises:
        ValueError: a header is malformed, or has no item column.
    """
    field, tokens = config["ITEM_ID_FIELD"], set()
    for path in filter(Path.is_file, inter_files(config)):
        tokens |= set(_read_text(path, [field], config)[field])
    return tokens
